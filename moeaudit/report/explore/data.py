"""`data`: everything that the map, an expert's card and a token's route show, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.stats.least import REMOVALS_FOR_LIMITS
from moeaudit.stats.sizes.limits import means_of_columns

from ..words.evidence import metric_name
from ..words.numbers import count
from .cells import LEVEL, of_domains
from .choices import Choices
from .contexts import contexts
from .identity import MOST_ROWS, WHY_NULL, harm_share
from .numbers import shorts
from .routes import Strings, documents
from .sample import ROWS, sample, whole_documents
from .source import TOP, Grid, Source, Tokens, per_expert
from .sums import Effects

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun

VERSION = 1
OUTCOMES = {
    "delta_nll": {"name": "harm", "unit": "nats", "signed": True},
    "kl": {"name": "disturbance (KL)", "unit": "nats", "signed": False},
    "flip": {"name": "flips", "unit": "share", "signed": False},
}
NO_NEXT = "No record of who is next in line: the run was written before that was recorded."
NO_TOP = "The run does not hold what the model predicts: it was written before that was recorded."
A_SAMPLE = "The effects are a sample, which has not all experts of a token, and no routing table lies beside them."


def data(run: StoredRun, rows: int = ROWS) -> dict[str, Any]:
    """The data of a run's experts and tokens, JSON-safe: null is what is not known, `*_why` says why.

    One pass over the effects and one over the router's choices, a shard at a time; memory is a few numbers for each
    document and cell, and for each token of the vocabulary and cell that occurs. About `rows` effects are shown one
    by one, those of a sample of documents that `sample` states. All lists named under "cells" and beside it have one
    entry a (layer, expert), in the order of `cells`. Harm is the mean change of the next token's NLL, nats; limits are
    of 95%, by document, adjusted for heavy tails and skewness (`stats.sizes.limits`).

    Where the run's rows are not about one active expert each, the answer is `{"absent": why, ...}` and nothing more.
    """
    why = per_expert(run.question)
    head = {"version": VERSION, "model": run.spec.model, "operator": str(run.question)}
    if why is not None:
        return head | {"unit": "nats", "absent": why}
    return head | gathered(Source.of_run(run), rows)


def gathered(source: Source, rows: int = ROWS) -> dict[str, Any]:
    """The same of any source of effects."""
    grid, tokens = Grid.of(source.experts), Tokens(source.tokens)
    of_run = tokens.table, _rows_of(source)
    drawn = sample(*of_run, source.seed, rows)
    of_identity = whole_documents(*of_run, source.seed, MOST_ROWS)
    effects = Effects(source, grid, tokens, drawn.shown, of_identity)
    domains = list(dict.fromkeys(tokens.table["domain"].astype(str)))
    strings = Strings()
    cells, chosen = _cells(grid, effects), _choices(source, grid, tokens, effects, of_identity)
    cells["cells"]["use"] = chosen.pop("use")
    return {
        "absent": None,
        "unit": "nats",
        "layers": list(grid.layers),
        "experts": {str(layer): n for layer, n in zip(grid.layers, grid.sizes)},
        "outcomes": OUTCOMES,
        "domains": domains,
        **cells,
        "by_domain": of_domains(effects, _domain_of(tokens, effects, domains), len(domains)),
        **_metrics(source, grid),
        **chosen,
        "contexts": contexts(effects.contexts.table(), tokens.table, grid.n, source.strings),
        "pruning": None,
        "documents": documents(effects.shown(), tokens, drawn, domains, source.strings, strings),
        "strings": strings.texts,
        "top_why": None if TOP in source.columns else NO_TOP,
        "sample": drawn.said + _read_for_identity(of_identity, tokens),
        "rows": effects.rows,
        "rows_shown": int(len(effects.shown().get("layer", ()))),
    }


def _read_for_identity(documents: np.ndarray, tokens: Tokens) -> str:
    """Said where token identity was read in a part of the documents."""
    every = tokens.table["document"].nunique()
    if len(documents) == every:
        return ""
    return f" What the token explains is read in {count(len(documents))} of {count(every)} documents, drawn by domain."


def _rows_of(source: Source) -> int:
    found = source.effects
    return int(found.rows) if hasattr(found, "rows") else len(found)


def _cells(grid: Grid, effects: Effects) -> dict[str, Any]:
    n = effects.count()
    out: dict[str, Any] = {
        "layer": grid.layer.tolist(),
        "expert": grid.expert.tolist(),
        "n": n.sum(axis=0).astype(int).tolist(),
        "documents": (n > 0).sum(axis=0).tolist(),
    }
    harm = np.zeros(grid.n)
    for name in ("delta_nll", "kl"):
        mean, low, high = means_of_columns(effects.total(name), n, LEVEL)
        out |= {name: shorts(mean), f"{name}_low": shorts(low), f"{name}_high": shorts(high)}
        harm = mean if name == "delta_nll" else harm
    with np.errstate(divide="ignore", invalid="ignore"):
        out["flip"] = shorts(effects.total("flip").sum(axis=0) / n.sum(axis=0), 6)
        out["weight"] = shorts(effects.total("weight").sum(axis=0) / n.sum(axis=0))
    return {"cells": out, "harm_rank": _ranks(harm, grid), "few": REMOVALS_FOR_LIMITS}


def _domain_of(tokens: Tokens, effects: Effects, domains: list[str]) -> np.ndarray:
    """The domain of each document of the sums."""
    first = tokens.table.drop_duplicates("document").set_index("document")["domain"].astype(str)
    place = {name: i for i, name in enumerate(domains)}
    return np.array([place[first[document]] for document in effects.documents])


def _metrics(source: Source, grid: Grid) -> dict[str, Any]:
    """Values and ranks of each metric; experts without a value are null."""
    names: dict[str, Any] = {}
    values: dict[str, Any] = {}
    ranks: dict[str, Any] = {}
    if source.metrics is not None:
        table = source.metrics[source.metrics["layer"].isin(grid.layers)]
        for metric, part in table.groupby("metric", sort=False, observed=True):
            column = np.full(grid.n, np.nan)
            column[grid.cell(part["layer"].to_numpy(), part["expert"].to_numpy())] = part["value"]
            key = str(metric)
            names[key] = {"name": metric_name(key)[0]}
            values[key], ranks[key] = shorts(column), _ranks(column, grid)
    return {"metrics": names, "metric_values": values, "metric_ranks": ranks}


def _ranks(values: np.ndarray, grid: Grid) -> list[int | None]:
    """Places within each layer, 1 the largest; equal values share the first place of theirs."""
    out: list[int | None] = []
    for a, b in zip(grid.first[:-1], grid.first[1:]):
        part = values[a:b]
        known = np.sort(part[np.isfinite(part)])
        for value in part:
            above = len(known) - int(np.searchsorted(known, value, side="right"))
            out.append(above + 1 if np.isfinite(value) else None)
    return out


def _choices(
    source: Source, grid: Grid, tokens: Tokens, effects: Effects, of_identity: np.ndarray
) -> dict[str, Any]:
    """Who stands beside an expert, who is next in line, and what the token alone explains."""
    n = effects.count()
    rows = n.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = effects.total("delta_nll").sum(axis=0) / rows
        variance = effects.squares / rows - mean**2
    of_harm = harm_share(effects.harm_by_token, mean, variance, (n > 0).sum(axis=0))
    if source.routing is None and source.share != 1:
        nothing: dict[str, Any] = {"beside": None, "beside_why": A_SAMPLE, "replaced": None}
        return nothing | {
            "replaced_why": A_SAMPLE,
            "use": [None] * grid.n,
            "identity": {"use": [None] * grid.n, "harm": shorts(of_harm), "why": WHY_NULL},
        }
    found = Choices(source, grid, tokens, of_identity)
    replaced = found.replaced()
    return {
        "beside": found.beside(),
        "beside_why": None,
        "replaced": replaced,
        "replaced_why": None if replaced is not None else NO_NEXT,
        "use": shorts(found.use),
        "identity": {"use": shorts(found.explained()), "harm": shorts(of_harm), "why": WHY_NULL},
    }
