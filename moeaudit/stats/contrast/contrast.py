"""The within-token contrast: does the expert a metric ranks highest matter more, for this token?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError, one_of
from moeaudit.frames.waiting import counting
from moeaudit.seeds import generator

from ..families.families import Family, check_family
from ..record.made import record
from ..record.shown import Contrasts
from ..sizes.effect_sizes import SIZES
from .cells import Cell, pair
from .checks import require_per_expert
from .controls import CONTROLS, check_controls, control_cell
from .crossfit import Scores, scores_of
from .frames import KEYS as KEYS
from .over_experts import nulls_of
from .protocol import Defects, Protocol, choose_layers, choose_metrics, choose_tokens, get_protocol
from .row import reduced
from .slots import Census, Slots
from .table import table_of, weights_for

QUESTION = "within-token contrast"


def contrast(
    effects: Any,
    metrics: Any,
    *,
    outcome: str = "delta_nll",
    protocol: str | Protocol = "moeaudit",
    controls: Sequence[str] = tuple(CONTROLS),
    layers: Sequence[int] | None = None,
    seed: int = 0,
    sizes: Sequence[str] = ("d_z",),
    family: Family | None = None,
    reasons: Mapping[str, str] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Contrast the highest- with the lowest-metric active expert of every token, layer by layer.

    Parameters
    ----------
    effects
        A census: document, position, layer, rank, expert and the outcome's column (`delta_nll` in
        nats, `kl` in nats, or `flip`), one row per active expert. A DataFrame, or shards with
        `frames(columns)` (each document whole in one), which are read one at a time: held are a few
        bytes a row (`slots.Census`) and the arrays of one layer.
    metrics
        Expert metrics from other documents: layer, expert, metric, value. Or a callable
        `measure(documents) -> such a table`, which cross-fits: documents are dealt into `n_folds`
        folds, and the tokens of a fold are scored by what `measure` finds in the other folds.
    outcome
        "delta_nll" (harm), "abs_delta_nll" or "kl" or "flip" (disturbance).
    protocol
        "moeaudit", "engmann2026", or a `Protocol`.
    controls
        Rows to add from "random", "random_score", "gate_weight", "heldout_causal"; at least one.
    layers
        Decoder layer indices; the protocol's choice if None.
    seed
        Of bootstrap, flips, folds and the random control. "engmann2026" draws its positions by 42.
    sizes
        Effect sizes beside d_z, from `effect_sizes.SIZES`, each with `_low` and `_high`. Always there is
        `top_share`, what the largest 1 % of tokens carry of the variance that d_z divides by (.085 if it
        were normal); and `d_z_dof`, `d_z_skewness`, `sd_difference` and `layer_mean`, from which
        `verdicts_at` says what another bound would give.
    family
        The declared family, cells (metric, layer); refused unless it is what is tested here.
    reasons
        Why a metric has no values, by its name. A metric that no expert has a value of (or that only
        this names) has a row per layer with null numbers and this reason, and is in no family.
    settings
        Changes to the protocol, such as `sesoi=0.05` (in d_z; "0.01nats" and "50%harm" give it in
        nats and as a share of the layer's mean outcome), `n_boot=10_000`, `interval="bca"`. Without `sesoi`
        it is 0.01 nats where the outcome is in nats ("delta_nll", "abs_delta_nll", "kl", "delta_entropy"), else
        0.1 in d_z; "engmann2026" has 0.1 in d_z.

    Returns
    -------
    One row per (metric, layer) and per (control, layer). Sizes are of outcome(high removed) -
    outcome(low removed), so positive means that the metric points at the expert that matters. Null
    numbers have a `reason`. `p` is the protocol's test of a cell, `p_bonferroni` ... `p_by` correct
    it over the family, `p_maxt` is step-down max-T, `p_rank_flip` and `p_rank_maxt` are the same on
    signed ranks (Wilcoxon's test with documents as clusters), `p_tost` tests |d_z| < sesoi by
    documents, `p_equivalence` is its correction; `sesoi_nats` is the bound times the cell's own
    deviation, in the outcome's unit; `mde` is the effect found with the protocol's power, `n_to_decide` the tokens
    at which the cell would be decided; `d_z_oracle` is the d_z of heldout_causal in that layer (each expert's
    mean outcome in other documents) with its limits (`d_z_oracle_low`, `_high`): an estimate of what one number
    per expert reaches, which a metric may exceed. `of_oracle` is the share of it (null where the oracle is
    about zero; `no_oracle` says so). `largest_held_out`, one number for a family, is what its largest |d_z|,
    picked in one half of the documents, shows in the other (`families.selected`); `metric_largest_held_out`
    the same among the layers of one metric.

    A metric is one number an expert, so experts are a sample too. `p_experts` is the share of
    shuffles of the metric over the layer's `experts` with a |d_z| as large (a random permutation
    test, all metrics of a layer shuffled alike), `p_experts_maxt` its step-down max-T over the family,
    `null_low` and `null_high` hold 95 % of the shuffles; `no_experts` says why these are null.
    `d_z_crossed_low` and `d_z_crossed_high` take experts as a sample as well (`no_crossed`: why null);
    `p_beyond` tests by them that |d_z| is above sesoi, `p_beyond_these` by documents alone, both corrected;
    `p_tost_crossed` and its correction `p_equivalence_crossed` test by them that it is below.
    `verdict` needs documents and experts, `verdict_these_experts` documents alone, and `supports`
    says whom a row speaks of. Verdicts: see `equivalence.VERDICTS`; `too_few` says why there is none.

    `d_z_equal` with its limits lets every document count alike; `p_lengths` is small where documents'
    mean effects go with their lengths, so that the two differ (1 where lengths hardly vary).

    Raises
    ------
    InputError
        For missing columns, non-finite effects, unknown names, experts that no metric describes.

    Example
    -------
        model = ma.load("tiny-olmoe")
        texts = [d.text[:200] for d in ma.corpus("bundled").sample(16, seed=0).documents]
        metrics = ma.expert_metrics(ma.capture(model, texts[:8]), ["reap"])  # of other documents
        effects = ma.ablate(model, texts[8:], layers=[4])
        table = ma.contrast(effects, metrics, n_boot=200)
        table[["metric", "layer", "d_z", "d_z_low", "d_z_high", "verdict"]]
    """
    recipe = get_protocol(protocol).with_(**settings).settled((outcome,))
    sizes = tuple(one_of(s, SIZES, "effect size") for s in dict.fromkeys(("d_z", *sizes)))
    asked = asked_of(
        effects, metrics, recipe, outcome=outcome, controls=controls, layers=layers, seed=seed,
        reasons=reasons,
    )  # fmt: skip
    recipe.bound.check((outcome,))
    tested = [n for n in asked.names if n not in asked.absent]
    if family is not None:
        check_family(family, [(n, y) for n in tested for y in asked.layers])
        recipe = recipe.with_(alpha=family.alpha)
    weights = weights_for(asked.n_documents, recipe, seed)
    n_cells = (len(asked.names) + len(asked.controls)) * len(asked.layers)
    cells = []
    with counting(None, f"contrast of {outcome}", n_cells, "cells") as tell:
        for cell in asked.cells():
            cells.append(reduced(cell, asked.n_documents, recipe, weights, sizes))
            tell(1)
    cells.sort(key=asked.place)
    result: Any = Contrasts.of(table_of(cells, recipe, seed=seed))
    if "heldout_causal" in controls:
        mine = result["metric"] == "heldout_causal"
        layers_of = result["layer"]
        for end in ("", "_low", "_high"):
            oracle = dict(zip(layers_of[mine], result[f"d_z{end}"][mine]))
            result[f"d_z_oracle{end}"] = pd.array([oracle[y] for y in layers_of], dtype="Float64")
        result = _of_oracle(result, dict(zip(layers_of[mine], result["d_z_low"][mine])))
    result.insert(0, "outcome", outcome)
    result.insert(0, "question", QUESTION)
    result.attrs = {
        "protocol": recipe.name,
        "defects": list(recipe.defects.on),
        "crossfitted": recipe.n_folds if callable(metrics) else 0,
        **record(
            QUESTION, outcome, recipe, metrics=tested, layers=asked.layers, controls=asked.controls,
            seed=seed, documents=asked.census.documents, scores=metrics,
        ),
    }  # fmt: skip
    return result


def _of_oracle(table: pd.DataFrame, low: Mapping[Any, Any]) -> pd.DataFrame:
    """`of_oracle`: d_z as a share of what the held-out oracle of the layer reaches; null with the reason
    `no_oracle` where the oracle's own interval (lower limits `low`, by layer) does not lie above zero."""
    known = {y: bool(pd.notna(x) and x > 0) for y, x in low.items()}
    ok = np.array([known[y] for y in table["layer"]], dtype=bool) & table["d_z"].notna().to_numpy()
    share = (table["d_z"] / table["d_z_oracle"].where(ok, pd.NA)).astype("Float64")
    why = "the held-out oracle of this layer is not shown to be above zero"
    text = [None if use else why if pd.notna(d) else "no d_z" for use, d in zip(ok, table["d_z"])]
    return table.assign(of_oracle=share, no_oracle=pd.Series(text, index=table.index, dtype=object))


def contrast_cells(
    effects: Any,
    metrics: Any,
    recipe: Protocol,
    *,
    outcome: str,
    controls: Sequence[str],
    layers: Sequence[int] | None,
    seed: int,
    reasons: Mapping[str, str] | None = None,
) -> tuple[list[Cell], int]:
    """The cells of `contrast` (metrics first, then controls, layers rising) and the documents."""
    asked = asked_of(
        effects, metrics, recipe, outcome=outcome, controls=controls, layers=layers, seed=seed,
        reasons=reasons,
    )  # fmt: skip
    return sorted(asked.cells(), key=asked.place), asked.n_documents


@dataclass(frozen=True)
class Asked:
    """Everything that makes the cells of a contrast; `cells` makes them, one layer at a time."""

    census: Census
    scores: Scores
    recipe: Protocol
    names: list[str]
    controls: tuple[str, ...]
    layers: list[int]
    seed: int
    absent: dict[str, str]

    @property
    def n_documents(self) -> int:
        return len(self.census.documents)

    def place(self, cell: Any) -> tuple[bool, int, int]:
        """Where a cell stands in a table: metrics, then controls; in the order asked; layers rising."""
        order = [*self.names, *self.controls]
        return cell.role == "control", order.index(cell.metric), cell.layer

    def cells(self) -> Iterator[Cell]:
        """The cells of each layer in turn; the layer's arrays go when the next is asked for."""
        draw_seed = self.seed if self.recipe.seed is None else self.recipe.seed
        for layer in self.layers:
            slots = self.census.slots(layer)
            mean = float(slots.value[slots.present].mean())
            _overlap(slots, self.scores.described(layer))
            tested = [n for n in self.names if n not in self.absent]
            null = nulls_of(
                slots, self.scores, tested, self.controls, self.recipe,
                seed=self.seed, draw_seed=draw_seed,
            )  # fmt: skip
            for name in self.names:
                cell = pair(slots, self.scores.of(slots, name), name, "metric")
                cell = replace(cell, layer_mean=mean)
                if name in self.absent:
                    cell = replace(cell, reason=self.absent[name], tested=False)
                cell = replace(cell, null=null.get(name))
                yield _sampled(cell, slots, self.recipe, draw_seed, name)
            for name in self.controls:
                cell = control_cell(slots, name, seed=self.seed, n_folds=self.recipe.n_folds)
                cell = replace(cell, null=null[name], layer_mean=mean)
                yield _sampled(cell, slots, self.recipe, draw_seed, name)


def asked_of(
    effects: Any,
    metrics: Any,
    recipe: Protocol,
    *,
    outcome: str,
    controls: Sequence[str],
    layers: Sequence[int] | None,
    seed: int,
    reasons: Mapping[str, str] | None,
) -> Asked:
    """Read the effects and the metrics, and settle what is compared with what."""
    controls = check_controls(tuple(controls))
    check_effects(recipe.defects, effects)
    census = Census(effects, outcome, layers)
    scores = scores_of(
        metrics,
        census.documents,
        recipe.n_folds,
        seed,
        lambda given: check_metrics(recipe.defects, given),
    )
    names, absent = absent_metrics(recipe, scores.names, scores.known, reasons)
    chosen = choose_layers(recipe, census.layers) if layers is None else census.layers
    return Asked(census, scores, recipe, names, controls, chosen, seed, absent)


def absent_metrics(
    recipe: Protocol, names: list[str], known: set[str], reasons: Mapping[str, str] | None
) -> tuple[list[str], dict[str, str]]:
    """The metrics a protocol tests, and of these the ones without any value, with the reason why.

    `names` are those of the metrics table, `known` those with a value for some expert.
    """
    said = dict(reasons or {})
    chosen = choose_metrics(recipe, list(dict.fromkeys([*names, *said])))
    none = "the metrics table has no value of it for any expert"
    absent = {n: said.get(n, none).rstrip(". ") for n in chosen if n not in known}
    return chosen, {n: f"not estimable, because {why}" for n, why in absent.items()}


def _sampled(cell: Cell, slots: Slots, recipe: Protocol, seed: int, name: str) -> Cell:
    """Keep the positions a protocol draws: the same in every layer, and for every metric unless
    the published defect is switched on. What a draw drops for want of a pair is counted."""
    if recipe.positions is None or recipe.positions >= len(slots.document):
        return cell
    label = name if recipe.defects.own_positions_per_metric else "shared"
    drawn = choose_tokens(recipe, slots.document, generator(seed, "positions", label))
    span = int(slots.position.max()) + 1
    keys = slots.document[drawn] * span + slots.position[drawn]
    position = cell.position if cell.position is not None else np.empty(0, np.int64)
    keep = np.isin(cell.document * span + position, keys)
    return replace(
        cell,
        document=cell.document[keep],
        position=position[keep],
        high=cell.high[keep],
        low=cell.low[keep],
        pair=None if cell.pair is None else cell.pair[keep],
        n_offered=len(drawn),
    )


def _overlap(slots: Slots, described: np.ndarray) -> None:
    active = np.unique(slots.expert[slots.present])
    if not np.isin(active, described).any():
        raise InputError(
            f"No expert active in layer {slots.layer} of the effects has a metric: the metrics "
            f"table describes {len(described)} expert(s) of that layer. Do both tables come from the "
            "same model, with `layer` the decoder layer's own index?"
        )


def check_effects(defects: Defects, effects: Any) -> None:
    """Effects of a switch that acts where they are made must have been made so: those of a question
    about whole documents, or of a table that says so in `attrs["defects"]`."""
    require_per_expert(effects)
    whole = getattr(getattr(effects, "question", None), "scope", "position") != "position"
    said = (getattr(effects, "attrs", None) or {}).get("defects", ())
    for name in Defects.IN_EFFECTS:
        if getattr(defects, name) and not (whole or name in said):
            raise InputError(
                f"The defect {name} acts where effects are made, so contrast cannot switch it on. "
                "Make effects that have it with moeaudit.ablate(model, docs, Everywhere(Zero())), or "
                f"say that yours do in effects.attrs['defects'] = [{name!r}]."
            )


def check_metrics(defects: Defects, metrics: Any) -> None:
    """A metrics table must have the defects that are switched on, and say so, and no others."""
    said = (getattr(metrics, "attrs", None) or {}).get("defects", ())
    for name in Defects.IN_METRICS:
        if getattr(defects, name) and name not in said:
            raise InputError(
                f"The defect {name} acts where metrics are made, so contrast cannot switch it on. "
                "Make metrics that have it with moeaudit.stats.defective_metrics, or say that yours "
                f"do in metrics.attrs['defects'] = [{name!r}]."
            )
        if name in said and not getattr(defects, name):
            raise InputError(
                f"The metrics table says that it has the defect {name}, and the protocol has it "
                "switched off. Switch it on, protocol=get_protocol(...).with_(defects=Defects("
                f"{name}=True)), or pass metrics without it."
            )
