"""`moeaudit.prune_curve`: what pruning by each criterion costs, beside pruning at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from moeaudit.errors import InputError
from moeaudit.models import Model

from .asked import RANDOM, Asked, asked_of
from .choose import (
    Banned,
    Groups,
    Scope,
    Scores,
    check_keep,
    choose,
    depth_layers,
    random_scores,
    tie_breaks,
)
from .claims import draws_needed
from .criteria.scores import criterion_scores
from .evaluate import evaluate
from .export.groups import groups_of
from .result import PruneCurve
from .sides import facts_of, two_sides
from .steps import Steps, steps_of
from .tables import Resampled, cost_table

N_BOOT = 2000


def prune_curve(
    model: Model,
    docs: Any,
    criteria: Any = None,
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
    progress: Steps | None = None,
) -> PruneCurve:
    """Drop experts by each criterion and measure loss and KL(clean || pruned) on other documents.

    Pruned experts cannot be chosen: the model's own router picks among the rest and normalises over
    the rest, as in a checkpoint without them (`export_pruned` writes one).

    Args:
        model: a loaded model.
        docs: the documents that pruned models are evaluated on: strings, 1-D token arrays, a Corpus
            or tokenised documents.
        criteria: names from utilisation, mean_weight, activation_norm (= man), activation_sd, reap,
            ean, msan, easy_ep, router_norm, causal_harm, random; all of them if None. Or rankings of your own:
            a DataFrame (layer, expert, score: higher stays), a function of (model, calibration documents)
            that returns one, or a mapping from names to these, `{"mine": table, "reap": None}`.
        keep: shares of the experts that stay.
        calibration: other documents, which the criteria are computed on. If None, `docs` are split
            in two halves by a hash of each text, and the notes say so.
        scope: "layer" drops the same number in every layer; "global" ranks all experts together by
            raw score and never leaves a layer fewer than its top-k. Or both.
        layers: "all", or a third of the MoE layers: "early", "middle", "late". Or several, each with
            its own models; `keep` is then the share that stays in those layers, others stay whole.
            Where a router first chooses among groups of experts, `keep` is the share of each group.
        draws: random models for each cell; their spread is what a criterion has to beat. To show that of
            one among k criteria takes 20 k - 1 of them (a note says so). 0 for none.
        seed: of the draws, of ties between equal scores and of the bootstrap.
        max_length: longest piece of text in tokens, as in `ablate`.
        level: of all intervals, which resample documents.
        margin: nats; criteria whose losses differ by surely less are called interchangeable, and a gain
            over random has to be surely more to be called predictive.
        progress: told of stages, as `moeaudit.audit` tells its own.

    Returns:
        A `PruneCurve`: `.table`, `.band()`, `.pairs()`, `.interchangeability()`, `.figure()`,
        `.kept(...)` for `export_pruned`.

    Raises:
        InputError: an unknown criterion, scope or depth; a share below top-k; documents that stand on
            both sides; a criterion named that the model has no numbers for; a ranking of your own that does not
            give each expert one number, naming row and value.
        ContractError: a router from which experts cannot be banned.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"prune_curve() was given a {type(model).__name__} as its model; load it first: "
            "prune_curve(moeaudit.load(...), docs)."
        )
    asked = asked_of(
        criteria,
        keep,
        scope=scope,
        layers=layers,
        draws=draws,
        seed=seed,
        level=level,
        margin=margin,
    )
    tell = steps_of(progress)
    groups = require_answerable(model, asked)
    held, used, notes = two_sides(model, docs, calibration, max_length)
    scores, missing = criterion_scores(
        model, used, asked.names, asked.own, strict=asked.named, progress=tell
    )
    plan = _plan(model, asked, scores, groups)
    keys = pd.DataFrame([p.key for p in plan], columns=["criterion", "draw", *_CELL])
    banned = [p.banned for p in plan]
    sums = evaluate(model, held, banned, tell)
    boot = Resampled.of(sums, N_BOOT, asked.seed, asked.level)
    ran = [name for name in dict.fromkeys(keys["criterion"]) if name != RANDOM]
    return PruneCurve(
        model=model.name,
        table=cost_table(keys, banned, boot, asked.margin),
        scores=scores,
        boot=boot,
        banned=tuple(banned),
        experts={layer.index: layer.num_experts for layer in model.anatomy.layers},
        margin=asked.margin,
        n_calibration=used.n_documents,
        notes=(*notes, *missing, *_of_groups(model, asked, groups), *_of_draws(asked, ran)),
        texts={"evaluated": facts_of(held), "calibration": facts_of(used)},
        provenance=dict(model.provenance),
    )


def require_answerable(model: Model, asked: Asked) -> Groups | None:
    """The groups of the model's router, if it has some. Raises InputError for shares and layers that this model
    does not have, before any text is read."""
    for depth in asked.depths:
        depth_layers(model, depth)
    groups = groups_of(model)
    check_keep(model, asked.shares, groups)
    return groups


def _of_groups(model: Model, asked: Asked, groups: Groups | None) -> list[str]:
    if groups is None:
        return []
    layer = model.anatomy.layers[0]
    kept = {share: groups.kept(layer, share) for share in asked.shares if "layer" in asked.scopes}
    each = ", ".join(f"{left} of {layer.num_experts} for {share:g}" for share, left in kept.items())
    return [
        f"The router of {model.name} first chooses among {groups.count} groups of experts, so each group loses "
        f"the same number (experts that stay in a layer: {each})."
        if kept
        else f"The router of {model.name} first chooses among {groups.count} groups of experts; each keeps at least "
        f"{groups.least}."
    ]


def _of_draws(asked: Asked, ran: Sequence[str]) -> list[str]:
    """What too few random draws cannot show."""
    if not asked.draws:
        return [
            "No random choices were drawn, so nothing is said of whether a criterion does better than luck; 20 "
            "draws or more would."
        ]
    notes = []
    if asked.draws < 20:
        notes.append(f"{asked.draws} random draws give a coarse band; 20 or more are usual.")
    needed = draws_needed(len(ran), asked.level)
    if ran and asked.draws < needed:
        which = "the criterion" if len(ran) == 1 else f"one of {len(ran)} criteria"
        notes.append(
            f"{asked.draws} random draws cannot show that {which} does better than luck over "
            f"experts would (p is at least {len(ran) / (asked.draws + 1):.2g} after correction): verdicts "
            f"against random then speak of these experts at most. {needed} draws could show it."
        )
    return notes


_CELL = ["scope", "depth", "keep"]


@dataclass(frozen=True)
class _Planned:
    key: tuple[str, int, str, str, float]
    banned: Banned


def _plan(
    model: Model, asked: Asked, scores: pd.DataFrame, groups: Groups | None
) -> list[_Planned]:
    """Every pruned model to be run, in the order of the table."""
    ranked: list[tuple[str, int, Scores]] = []
    for name in asked.names:
        if name == RANDOM:
            ranked += [(name, d, random_scores(model, asked.seed, d)) for d in range(asked.draws)]
            continue
        mine = scores[scores["criterion"] == name]
        if len(mine):
            cells = zip(mine["layer"].tolist(), mine["expert"].tolist())
            ranked.append((name, -1, dict(zip(cells, mine["score"].tolist()))))
    return list(_planned(model, asked, ranked, groups))


def _planned(
    model: Model, asked: Asked, ranked: Sequence[tuple[str, int, Scores]], groups: Groups | None
) -> Iterator[_Planned]:
    ties = tie_breaks(model, asked.seed)
    for scope in asked.scopes:
        for depth in asked.depths:
            within = depth_layers(model, depth)
            for share in asked.shares:
                for name, draw, score in ranked:
                    how: Scope = "global" if scope == "global" else "layer"
                    banned = choose(within, score, share, how, ties, groups)
                    yield _Planned((name, draw, scope, depth, share), banned)
