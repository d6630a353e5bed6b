"""The stages of an audit, each of which leaves a file behind and can be found done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.store.files import write_table
from moeaudit.store.shards import Shards
from moeaudit.text.choice import Material

from .analysis import null_reasons
from .parts.groups import TABLES, Spread, chosen, groups, here
from .progress import Progress
from .spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.causal.folder import EffectsFolder
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.observe import Trace

TOKENS, MASS = "tokens.parquet", "equal_mass.parquet"
SIZES = ("d_z", "winsorised_d_z", "rank_biserial")  # with tails, d_z is about a few tokens
PARTIAL = ".partial"  # token tables of finished groups, joined at the end


def metric_trace(model: Model, material: Material, progress: Progress) -> Trace:
    """The clean pass over the metric documents."""
    from moeaudit.observe import Trace, capture_documents
    from moeaudit.observe.trace import Facts

    read = material.metric
    progress.stage("routing metrics", read.n_targets, "tokens")
    reasons: dict[str, str] = {}
    tokens, routing = [], []
    for one, two in capture_documents(model, read, reasons=reasons):
        tokens.append(one)
        routing.append(two)
        progress.advance(len(one))
    return Trace(
        pd.concat(tokens, ignore_index=True),
        pd.concat(routing, ignore_index=True),
        Facts.of(model, read, reasons),
    )


def expert_table(trace: Trace, layers: list[int]) -> tuple[Frame, dict[str, str]]:
    """Routing metrics of every expert of the audited layers, from the metric documents.

    Also why metrics are null that have no value for any expert.
    """
    from moeaudit.observe import expert_metrics

    table = expert_metrics(trace)
    table = table[table["layer"].isin(layers)].reset_index(drop=True)
    why = null_reasons(table, trace.facts.nulls, len(trace.domains), trace.facts.n_documents)
    return table, why


def census(
    model: Model,
    operator: Operator,
    material: Material,
    spec: AuditSpec,
    folder: Path,
    progress: Progress,
    only: Collection[int] | None = None,
    spread: Spread | None = None,
) -> None:
    """Tokens, routing and effects of the effect documents, a shard for each group; finished ones are kept.

    `only` names the groups of this part of a run (None: all), `spread` is what computes them.
    """
    read = material.effect
    domains = dict.fromkeys(chunk.domain for chunk in read.chunks)
    whole = chosen(groups(read, spec.shard_documents), domains)
    mine = whole if only is None else [group for group in whole if group.number in only]
    from moeaudit.causal.operators.routing import rows_by_layer

    stores = shards(folder, spec, len(whole) if only is None else None)
    # The parts of the token table were joined at the end, in a file of its own.
    open_tables = TABLES[:-1] if (folder / TOKENS).is_file() else TABLES
    todo = []
    for group in mine:
        lacking = tuple(name for name in open_tables if not stores[name].has(group.number))
        if lacking:
            todo.append(replace(group, wanted=lacking))
    per_token = sum(rows_by_layer(operator, [model.anatomy[i] for i in spec.layers]).values())
    left = sum(group.n_targets for group in todo if "effects" in group.wanted)
    total = sum(group.n_targets for group in mine)
    share = spec.question.share
    every, done = (round(n * per_token * share) for n in (total, total - left))
    progress.stage("census", every, spec.unit, done)
    compute = here(model) if spread is None else spread
    for number, tables in compute(todo, operator, spec, progress.advance):
        for name, table in tables.items():
            stores[name].write(number, table)


def shards(folder: Path, spec: AuditSpec, parts: int | None) -> dict[str, Shards]:
    """The three tables of a census in the folder: routing, effects and, until they are joined, tokens."""
    asked = {"spec": spec.hash}
    places = {name: folder / name for name in TABLES} | {"tokens": folder / PARTIAL / "tokens"}
    return {name: Shards(place, asked, parts) for name, place in places.items()}


def verify_all(
    model: Model,
    operator: Operator,
    material: Material,
    spec: AuditSpec,
    effects: EffectsFolder,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Recompute a few rows with each engine; one entry per engine, also for those that cannot."""
    from moeaudit.causal.check.verify import verify

    progress.stage("verification", spec.verify_rows * len(spec.verify_engines), "rows")
    out = []
    for engine in spec.verify_engines:
        found = verify(
            effects,
            model,
            spec.verify_rows,
            engine=engine,
            seed=spec.seed,
            docs=material.effect,
            operator=operator,
        )
        ran = found.skipped is None
        out.append(
            {
                "engine": found.engine,
                "n": int(found.n),
                "max_abs_delta_nll": float(found.max_abs_delta_nll) if ran else None,
                "max_abs_kl": float(found.max_abs_kl) if ran else None,
                "flips_differ": int(found.flips_differ),
                "tolerance": float(found.tolerance),
                "agrees": bool(found.agrees),
                "skipped": found.skipped,
                **({} if found.usual is None else {"explained": found.explained}),
            }
        )
        progress.advance(spec.verify_rows)
    return out


def distinct_metrics(experts: Frame) -> tuple[Frame, list[str]]:
    """The metrics without those that equal an earlier one everywhere, and notes on these.

    Some scores of the literature are one quantity under two names; counting both would inflate
    the family of tests.
    """
    # Not pivot_table, which drops a metric that is null everywhere without a word.
    wide = experts.pivot(index=["layer", "expert"], columns="metric", values="value")
    names = [str(name) for name in experts["metric"].unique()]
    kept: list[str] = []
    notes: list[str] = []
    for name in names:
        known = bool(wide[name].notna().any())
        twin = next((k for k in kept if known and wide[k].equals(wide[name])), None)
        if twin is None:
            kept.append(name)
        else:
            notes.append(f"{name} equals {twin} for every expert and was not tested again.")
    return experts[experts["metric"].isin(kept)].reset_index(drop=True), notes


def test_table(
    effects: Any,
    experts: Frame,
    spec: AuditSpec,
    progress: Progress,
    reasons: Mapping[str, str] | None = None,
) -> Frame:
    """Within-token contrasts and per-expert means, for each outcome that is tested.

    `effects` is a frame or `Shards`. `reasons` says why metrics are null, where they are.
    """
    from moeaudit.stats import contrast, expert_harm, together

    tests = [(question, outcome) for outcome in spec.tested for question in (contrast, expert_harm)]
    progress.stage("statistics", len(tests), "tables")
    tables = []
    for question, outcome in tests:
        more: dict[str, Any] = {"sizes": SIZES} if question is contrast else {}
        tables.append(
            question(
                effects,
                experts,
                outcome=outcome,
                protocol=spec.recipe,
                seed=spec.seed,
                reasons=reasons,
                **more,
            )
        )
        progress.advance(1)
    return together(tables)


def mass_table(effects: Any, experts: Frame, spec: AuditSpec, progress: Progress) -> Frame:
    """A control of every metric: the highest-scored active expert against another of equal gate weight.

    A row with a reason for each outcome where a token has no other expert to compare with.
    """
    from moeaudit.errors import InputError
    from moeaudit.stats import equal_mass

    progress.stage("equal routed mass", len(spec.tested), "outcomes")
    tables = []
    for outcome in spec.tested:
        how = {"level": spec.recipe.level, "alpha": spec.alpha, "seed": spec.seed}
        try:
            tables.append(equal_mass(effects, experts, size=1, outcome=outcome, **how))
        except InputError as why:
            tables.append(pd.DataFrame([{"outcome": outcome, "reason": str(why)}]))
        progress.advance(1)
    return pd.concat(tables, ignore_index=True)


def join_tokens(folder: Path) -> None:
    """The token tables of all groups as the one file that a finished run has."""
    parts = Shards(folder / PARTIAL / "tokens")
    if parts.whole or not (folder / TOKENS).is_file():
        write_table(folder / TOKENS, parts.read())


def summary(effects: Shards, tokens: Frame, possible: int | None = None) -> dict[str, Any]:
    """The few numbers that a sentence about the run needs, added up a shard at a time.

    `possible`: how many rows a census would have, of which these are a sample.
    """
    sums = dict.fromkeys(("rows", "delta_nll", "kl", "harmful", "flips"), 0.0)
    for frame in effects.frames(["delta_nll", "kl", "flip"]):
        delta = frame["delta_nll"].astype("float64")
        sums["rows"] += len(frame)
        sums["delta_nll"] += float(delta.sum())
        sums["kl"] += float(frame["kl"].astype("float64").sum())
        sums["harmful"] += int((delta > 0).sum())
        sums["flips"] += int(frame["flip"].sum())
    rows = int(sums["rows"])
    return {
        "rows": rows,
        "tokens": len(tokens),
        "documents": int(tokens["document"].nunique()),
        "domains": int(tokens["domain"].nunique()),
        "mean_delta_nll": sums["delta_nll"] / rows,
        "mean_kl": sums["kl"] / rows,
        "share_harmful": sums["harmful"] / rows,
        "share_flips": sums["flips"] / rows,
    } | ({} if possible is None else {"possible": possible})


def possible(record: dict[str, Any], spec: AuditSpec, tokens: Frame) -> int | None:
    """How many rows a census of these tokens has; None where the run is one."""
    if spec.question.share == 1:
        return None
    return len(tokens) * record["rows_per_token"]
