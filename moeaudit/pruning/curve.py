"""`moeaudit.prune_curve`: what pruning by each criterion costs, beside pruning at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of
from moeaudit.models import Model
from moeaudit.text import Corpus, TokenizedCorpus, documents
from moeaudit.text.for_model import tokens_for

from .choose import (
    DEPTHS,
    Banned,
    Scope,
    Scores,
    check_keep,
    choose,
    depth_layers,
    random_scores,
    tie_breaks,
)
from .claims import draws_needed
from .criteria import check_criteria, criterion_scores
from .evaluate import evaluate
from .result import PruneCurve
from .tables import RANDOM, Resampled, cost_table

N_BOOT = 2000
SCOPES = ("layer", "global")


def prune_curve(
    model: Model,
    docs: Any,
    criteria: Sequence[str] | str | None = None,
    keep: Sequence[float] | float = (0.875, 0.75, 0.5),
    *,
    calibration: Any = None,
    scope: str | Sequence[str] = "layer",
    layers: str | Sequence[str] = "all",
    draws: int = 20,
    seed: int = 0,
    max_length: int | None = None,
    level: float = 0.95,
    margin: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> PruneCurve:
    """Drop experts by each criterion and measure loss and KL(clean || pruned) on other documents.

    Pruned experts cannot be chosen: the model's own router picks among the rest and normalises over
    the rest, as in a checkpoint without them (`export_pruned` writes one).

    Args:
        model: a loaded model.
        docs: the documents that pruned models are evaluated on: strings, 1-D token arrays, a Corpus
            or tokenised documents.
        criteria: names from utilisation, mean_weight, activation_norm (= man), activation_sd, reap,
            ean, msan, easy_ep, router_norm, causal_harm, random; all of them if None.
        keep: shares of the experts that stay.
        calibration: other documents, which the criteria are computed on. If None, `docs` are split
            in two halves by a hash of each text, and the notes say so.
        scope: "layer" drops the same number in every layer; "global" ranks all experts together by
            raw score and never leaves a layer fewer than its top-k. Or both.
        layers: "all", or a third of the MoE layers: "early", "middle", "late". Or several, each with
            its own models; `keep` is then the share that stays in those layers, others stay whole.
        draws: random models for each cell; their spread is what a criterion has to beat. To show that of
            one among k criteria takes 20 k - 1 of them (a note says so).
        seed: of the draws, of ties between equal scores and of the bootstrap.
        max_length: longest piece of text in tokens, as in `ablate`.
        level: of all intervals, which resample documents.
        margin: nats; criteria whose losses differ by surely less are called interchangeable, and a gain
            over random has to be surely more to be called predictive.
        progress: called with (passes made now, passes in all).

    Returns:
        A `PruneCurve`: `.table`, `.band()`, `.pairs()`, `.interchangeability()`, `.figure()`,
        `.kept(...)` for `export_pruned`.

    Raises:
        InputError: an unknown criterion, scope or depth; a share below top-k; documents that stand on
            both sides; a criterion named that the model has no numbers for.
        ContractError: a router from which experts cannot be banned.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"prune_curve() was given a {type(model).__name__} as its model; load it first: "
            "prune_curve(moeaudit.load(...), docs)."
        )
    names, shares = check_criteria(criteria), check_keep(model, keep)
    scopes, depths = _known(scope, SCOPES, "scope="), _known(layers, DEPTHS, "layers=")
    if RANDOM in names and draws < 2:
        raise InputError(
            f"draws = {draws} random models have no spread to compare a criterion with; ask for 20 or "
            "more, or leave 'random' out of `criteria`."
        )
    held, used, notes = _two_sides(model, docs, calibration, max_length)
    scores, missing = criterion_scores(model, used, names, strict=criteria is not None)
    plan = _plan(model, names, scores, scopes, depths, shares, draws, seed)
    keys = pd.DataFrame([p.key for p in plan], columns=["criterion", "draw", *_CELL])
    banned = [p.banned for p in plan]
    report = None
    if progress is not None:
        passes = len({tuple(sorted(b.items())) for b in banned})
        report = _Passes(progress, passes)
    sums = evaluate(model, held, banned, report)
    boot = Resampled.of(sums, N_BOOT, seed, level)
    if RANDOM in names and draws < 20:
        missing = [*missing, f"{draws} random draws give a coarse band; 20 or more are usual."]
    criteria_run = [n for n in dict.fromkeys(keys["criterion"]) if n != RANDOM]
    needed = draws_needed(len(criteria_run), level)
    if RANDOM in names and criteria_run and draws < needed:
        missing = [
            *missing,
            f"{draws} random draws cannot show that one of {len(criteria_run)} criteria does better than luck over "
            f"experts would (p is at least {len(criteria_run) / (draws + 1):.2g} after correction): verdicts "
            f"against random then speak of these experts at most. {needed} draws could show it.",
        ]
    return PruneCurve(
        model=model.name,
        table=cost_table(keys, banned, boot, margin),
        scores=scores,
        boot=boot,
        banned=tuple(banned),
        experts={layer.index: layer.num_experts for layer in model.anatomy.layers},
        margin=margin,
        n_calibration=used.n_documents,
        notes=(*notes, *missing),
    )


_CELL = ["scope", "depth", "keep"]


@dataclass(frozen=True)
class _Planned:
    key: tuple[str, int, str, str, float]
    banned: Banned


@dataclass
class _Passes:
    """Tells of passes over batches, whose number depends on the text's lengths."""

    tell: Callable[[int, int], None]
    models: int

    def __call__(self, made: int) -> None:
        self.tell(made, self.models)


def _known(value: str | Sequence[str], known: Sequence[str], name: str) -> list[str]:
    values = [value] if isinstance(value, str) else list(value)
    if not values:
        raise InputError(f"{name}{value!r} is empty. Choose one or several of {', '.join(known)}.")
    return [one_of(v, known, name) for v in dict.fromkeys(values)]


def _plan(
    model: Model,
    names: Sequence[str],
    scores: pd.DataFrame,
    scopes: Sequence[str],
    depths: Sequence[str],
    shares: Sequence[float],
    draws: int,
    seed: int,
) -> list[_Planned]:
    """Every pruned model to be run, in the order of the table."""
    ties = tie_breaks(model, seed)
    ranked: list[tuple[str, int, Scores]] = []
    for name in names:
        if name == RANDOM:
            ranked += [(name, d, random_scores(model, seed, d)) for d in range(draws)]
            continue
        mine = scores[scores["criterion"] == name]
        if len(mine):
            cells = zip(mine["layer"].tolist(), mine["expert"].tolist())
            ranked.append((name, -1, dict(zip(cells, mine["score"].tolist()))))
    return list(_planned(model, ranked, scopes, depths, shares, ties))


def _planned(
    model: Model,
    ranked: Sequence[tuple[str, int, Scores]],
    scopes: Sequence[str],
    depths: Sequence[str],
    shares: Sequence[float],
    ties: Scores,
) -> Iterator[_Planned]:
    for scope in scopes:
        for depth in depths:
            within = depth_layers(model, depth)
            for share in shares:
                for name, draw, score in ranked:
                    how: Scope = "global" if scope == "global" else "layer"
                    banned = choose(within, score, share, how, ties)
                    yield _Planned((name, draw, scope, depth, share), banned)


def _two_sides(
    model: Model, docs: Any, calibration: Any, max_length: int | None
) -> tuple[TokenizedCorpus, TokenizedCorpus, list[str]]:
    """(evaluated, calibration), tokenised and disjoint."""
    notes = []
    if calibration is None:
        if isinstance(docs, TokenizedCorpus) or not _are_texts(docs):
            raise InputError(
                "prune_curve() computes its criteria on other documents than it evaluates; give those "
                "as calibration=... (for example ma.corpus('bundled', split='calibration'))."
            )
        whole = docs if isinstance(docs, Corpus) else documents(docs)
        calibration, docs = whole.split(0.5, seed=0)
        if not len(calibration) or not len(docs):
            raise InputError(
                f"{len(whole)} document(s) cannot be split into some to compute the criteria on and "
                "others to evaluate; give more, or the former as calibration=..."
            )
        notes.append(
            f"No calibration documents were given, so {len(calibration)} of the {len(whole)} documents, "
            f"chosen by a hash of their text, were set aside for the criteria; {len(docs)} were evaluated."
        )
    held = tokens_for(model, docs, max_length)
    used = tokens_for(model, calibration, max_length)
    _require_disjoint(held, used)
    notes += [*(f"Evaluated: {n}" for n in held.notes), *(f"Calibration: {n}" for n in used.notes)]
    return held, used, notes


def _are_texts(docs: Any) -> bool:
    return isinstance(docs, Corpus) or all(isinstance(d, str) or hasattr(d, "text") for d in docs)


def _require_disjoint(held: TokenizedCorpus, used: TokenizedCorpus) -> None:
    seen = {np.ascontiguousarray(chunk.ids).tobytes() for chunk in used.chunks}
    both = [c for c in held.chunks if np.ascontiguousarray(c.ids).tobytes() in seen]
    if both:
        raise InputError(
            f"{len({c.document for c in both})} of the {held.n_documents} evaluated documents (the first: "
            f"number {both[0].document}) are also in the calibration documents, token for token. A "
            "criterion is to be judged on text it has not seen: take one of the two sets elsewhere, or "
            "split one corpus with corpus.split(0.5)."
        )
