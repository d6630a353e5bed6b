"""The within-token contrast: does the expert a metric ranks highest matter more, for this token?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.seeds import generator

from ..families.families import Family, check_family
from ..sizes.effect_sizes import SIZES
from .cells import Cell, pair
from .checks import as_frame, outcome_column, outcome_values
from .controls import CONTROLS, check_controls, control_cell
from .crossfit import scores_of
from .protocol import Defects, Protocol, choose_layers, choose_metrics, choose_tokens, get_protocol
from .slots import Slots, documents_of, layers_of
from .table import cells_table

QUESTION = "within-token contrast"
KEYS = ["document", "position", "layer", "rank", "expert"]


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
    **settings: Any,
) -> pd.DataFrame:
    """Contrast the highest- with the lowest-metric active expert of every token, layer by layer.

    Parameters
    ----------
    effects
        A census: document, position, layer, rank, expert and the outcome's column (`delta_nll` in
        nats, `kl` in nats, or `flip`), one row per active expert.
    metrics
        Expert metrics from other documents: layer, expert, metric, value. Or a callable
        `measure(documents) -> such a table`, which cross-fits: documents are dealt into `n_folds`
        folds, and the tokens of a fold are scored by what `measure` finds in the other folds.
    outcome
        "delta_nll" (harm), "abs_delta_nll" or "kl" or "flip" (disturbance).
    protocol
        "moeaudit", "engmann2026", or a `Protocol`.
    controls
        Rows to add from "random", "gate_weight", "heldout_causal"; at least one.
    layers
        Decoder layer indices; the protocol's choice if None.
    seed
        Of bootstrap, flips, folds and the random control. "engmann2026" draws its positions by 42.
    sizes
        Effect sizes beside d_z, from `effect_sizes.SIZES`, each with `_low` and `_high`.
    family
        The declared family, cells (metric, layer); refused unless it is what is tested here.
    settings
        Changes to the protocol, such as `sesoi=0.05`, `n_boot=10_000`, `interval="bca"`.

    Returns
    -------
    One row per (metric, layer) and per (control, layer). Sizes are of outcome(high removed) -
    outcome(low removed), so positive means that the metric points at the expert that matters. Null
    numbers have a `reason`. `p` is the protocol's test of a cell, `p_bonferroni` ... `p_by` correct
    it over the family, `p_maxt` is step-down max-T, `p_rank_flip` and `p_rank_maxt` are the same on
    signed ranks (Wilcoxon's test with documents as clusters), `p_tost` tests |d_z| < sesoi, `p_equivalence`
    is its correction; `mde` is the effect found with the protocol's power, `n_to_decide` the tokens
    at which the cell would be decided; `d_z_oracle` is the d_z of heldout_causal in that layer, about
    the most that one number per expert can reach. Verdicts: see `equivalence.VERDICTS`.

    Raises
    ------
    InputError
        For missing columns, non-finite effects, unknown names, experts that no metric describes.
    """
    recipe = get_protocol(protocol).with_(**settings)
    sizes = tuple(dict.fromkeys(("d_z", *sizes)))
    unknown = [s for s in sizes if s not in SIZES]
    if unknown:
        raise InputError(f"Unknown effect size {unknown[0]!r}. Choose among {', '.join(SIZES)}.")
    cells, n_documents = contrast_cells(
        effects, metrics, recipe, outcome=outcome, controls=controls, layers=layers, seed=seed
    )
    if family is not None:
        check_family(family, [(c.metric, c.layer) for c in cells if c.role == "metric"])
        recipe = recipe.with_(alpha=family.alpha)
    result = cells_table(cells, n_documents, recipe, seed=seed, sizes=sizes)
    if "heldout_causal" in controls:
        mine = result["metric"] == "heldout_causal"
        oracle = dict(zip(result["layer"][mine], result["d_z"][mine]))
        result["d_z_oracle"] = pd.array([oracle[y] for y in result["layer"]], dtype="Float64")
    result.insert(0, "outcome", outcome)
    result.insert(0, "question", QUESTION)
    result.attrs = {
        "protocol": recipe.name,
        "defects": list(recipe.defects.on),
        "crossfitted": recipe.n_folds if callable(metrics) else 0,
    }
    return result


def contrast_cells(
    effects: Any,
    metrics: Any,
    recipe: Protocol,
    *,
    outcome: str,
    controls: Sequence[str],
    layers: Sequence[int] | None,
    seed: int,
) -> tuple[list[Cell], int]:
    """The cells of `contrast` (metrics first, then controls, layers rising) and the documents."""
    controls = check_controls(tuple(controls))
    check_effects(recipe.defects, effects)
    table = as_frame(effects, [*KEYS, outcome_column(outcome)], "The effects table")
    values = outcome_values(table, outcome)
    scores = scores_of(
        metrics,
        documents_of(table),
        recipe.n_folds,
        seed,
        lambda given: check_metrics(recipe.defects, given),
    )
    names = choose_metrics(recipe, scores.names)
    found = sorted(int(x) for x in table["layer"].unique())
    chosen = choose_layers(recipe, found) if layers is None else layers
    draw_seed = seed if recipe.seed is None else recipe.seed
    cells: list[Cell] = []
    n_documents = 0
    for slots in layers_of(table, values, chosen):
        n_documents = slots.n_documents
        _overlap(slots, scores.described(slots.layer))
        for name in names:
            cell = pair(slots, scores.of(slots, name), name, "metric")
            cells.append(_sampled(cell, slots, recipe, draw_seed, name))
        for name in controls:
            cell = control_cell(slots, name, seed=seed, n_folds=recipe.n_folds)
            cells.append(_sampled(cell, slots, recipe, draw_seed, name))
    order = [*names, *controls]
    cells.sort(key=lambda c: (c.role == "control", order.index(c.metric), c.layer))
    return cells, n_documents


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
    return Cell(
        metric=cell.metric,
        role=cell.role,
        layer=cell.layer,
        document=cell.document[keep],
        position=position[keep],
        high=cell.high[keep],
        low=cell.low[keep],
        n_offered=len(drawn),
        n_tied=cell.n_tied,
        n_all_tied=cell.n_all_tied,
        n_unscored=cell.n_unscored,
        n_partial=cell.n_partial,
        reason=cell.reason,
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
    """Effects of a switch that acts where they are made must have been made so: those of an operator
    on the whole sequence, or of a table that says so in `attrs["defects"]`."""
    whole = str(getattr(effects, "intervention", "")).lower().startswith("sequence")
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
