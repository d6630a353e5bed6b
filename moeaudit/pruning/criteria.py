"""What says that an expert may go: observational scores, the router's weights, measured harm.

Every score is read as "higher stays". Scores that are null, because no token chose the expert and
there is nothing to average, are the first to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from moeaudit.causal.census import ablate
from moeaudit.causal.operators.weights import Zero
from moeaudit.errors import InputError, one_of
from moeaudit.models import Model, MoELayer
from moeaudit.models.placement import weights_here
from moeaudit.text import TokenizedCorpus

# Names of `expert_metrics`; docs/methods/metrics.md has their formulas.
OBSERVED = (
    "utilisation",
    "mean_weight",
    "activation_norm",
    "activation_sd",
    "reap",
    "ean",
    "man",
    "msan",
    "easy_ep",
)
KNOWN = (*OBSERVED, "router_norm", "causal_harm", "random")
# MAN is the mean activation norm under another name; counting it twice would flatter agreement.
DEFAULT = tuple(name for name in KNOWN if name != "man")
_CHUNKS = 8  # pieces of text whose effects are held at once


def check_criteria(criteria: Sequence[str] | str | None) -> list[str]:
    """The criteria asked for, each once, in the order given. Raises InputError."""
    if criteria is None:
        return list(DEFAULT)
    wanted = [criteria] if isinstance(criteria, str) else list(criteria)
    for name in wanted:
        one_of(name, KNOWN, "criterion")
    if not wanted:
        raise InputError(
            f"No criterion was named. Name some of {', '.join(KNOWN)}, or leave `criteria` out for all."
        )
    return list(dict.fromkeys(wanted))


def criterion_scores(
    model: Model, texts: TokenizedCorpus, criteria: Sequence[str], *, strict: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Scores of every expert under each criterion but "random", from the calibration `texts`.

    Returns a frame (layer, expert, criterion, score; every expert has a row) and notes. A criterion
    that this model has no numbers for is left out with a note, or raises InputError if `strict`.
    """
    frames, notes = [], []
    observed = [name for name in criteria if name in OBSERVED]
    if observed:
        found, why = _observed(model, texts, observed)
        frames.append(found)
        notes += why
    if "router_norm" in criteria:
        norms, why = _router_norms(model)
        frames.append(norms)
        notes += why
    if "causal_harm" in criteria:
        frames.append(causal_harm(model, texts))
    if notes and strict:
        raise InputError(f"{notes[0]} Leave it out of `criteria`.")
    columns = ["layer", "expert", "criterion", "score"]
    if not frames:
        return pd.DataFrame(columns=columns), notes
    whole: Any = pd.concat(frames, ignore_index=True)
    return whole[columns], notes


def _observed(model: Model, texts: TokenizedCorpus, names: list[str]) -> tuple[Any, list[str]]:
    from moeaudit.observe import capture, expert_metrics

    trace = capture(model, texts)
    metrics: Any = expert_metrics(trace, names).rename(
        columns={"metric": "criterion", "value": "score"}
    )
    notes = []
    for name in names:
        mine = metrics[metrics["criterion"] == name]
        empty = mine.groupby("layer")["score"].count() == 0
        if empty.any():
            reason = trace.facts.nulls.get("change", "no token gives it a value")
            notes.append(
                f"The criterion {name!r} has no value in layer {empty.index[empty][0]} of {model.name}: "
                f"{reason}."
            )
            metrics = metrics[metrics["criterion"] != name]
    return metrics, notes


def _router_norms(model: Model) -> tuple[pd.DataFrame, list[str]]:
    """L2 norm of each expert's row of the router's weight matrix; needs no text."""
    rows = []
    for layer in model.anatomy.layers:
        weight = router_weight(layer)
        if weight is None:
            kind = "no router module" if layer.router is None else type(layer.router).__name__
            note = (
                f"The criterion 'router_norm' has no value in layer {layer.index} of {model.name}: "
                f"{kind} holds no matrix with one row for each of its {layer.num_experts} experts."
            )
            return pd.DataFrame(columns=["layer", "expert", "criterion", "score"]), [note]
        assert layer.router is not None
        with weights_here(layer.router):
            weight = router_weight(layer)
            assert weight is not None
            norms = weight.detach().float().norm(dim=-1).tolist()
        rows += [(layer.index, e, "router_norm", norm) for e, norm in enumerate(norms)]
    return pd.DataFrame(rows, columns=["layer", "expert", "criterion", "score"]), []


def router_weight(layer: MoELayer) -> torch.Tensor | None:
    """The router's matrix "experts d_model", found by its shape; None if there is not one."""
    if layer.router is None:
        return None
    found = [
        p for p in layer.router.parameters() if p.dim() == 2 and p.shape[0] == layer.num_experts
    ]
    return found[0] if len(found) == 1 else None


def causal_harm(model: Model, texts: TokenizedCorpus) -> pd.DataFrame:
    r"""Expected harm of each expert: \(T^{-1} \sum_{t \in A_e} \Delta \mathrm{NLL}_t\), nats a token.

    Exact single-token effects of `ablate(Zero())`, summed over the tokens that chose the expert and
    divided by all tokens of the layer: how much the loss would rise if these removals added up.
    An expert that no token chose has harm 0.
    """
    total: dict[tuple[int, int], float] = {
        (layer.index, e): 0.0 for layer in model.anatomy.layers for e in range(layer.num_experts)
    }
    tokens = texts.n_targets
    for a in range(0, len(texts.chunks), _CHUNKS):
        part = replace(texts, chunks=texts.chunks[a : a + _CHUNKS])
        effects: Any = ablate(model, part, Zero())
        sums = effects.groupby(["layer", "expert"])["delta_nll"].sum()
        for (layer, expert), value in sums.items():
            total[int(layer), int(expert)] += float(value)
    rows = [(layer, e, "causal_harm", value / tokens) for (layer, e), value in total.items()]
    return pd.DataFrame(rows, columns=["layer", "expert", "criterion", "score"])
