"""What says that an expert may go: observational scores, the router's weights, measured harm.

Every score is read as "higher stays". Scores that are null, because no token chose the expert and
there is nothing to average, are the first to go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from moeaudit.causal.census import ablate
from moeaudit.causal.operators.weights import Zero
from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.placement import weights_here
from moeaudit.text import TokenizedCorpus

from ..asked import OBSERVED
from ..steps import Steps, steps_of
from .own import Ranking, own_scores

_CHUNKS = 8  # pieces of text whose effects are held at once


def criterion_scores(
    model: Model,
    texts: TokenizedCorpus,
    criteria: Sequence[str],
    own: Mapping[str, Ranking] | None = None,
    *,
    strict: bool,
    progress: Steps | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Scores of every expert under each criterion but "random", from the calibration `texts`.

    `own` are rankings that the user brought. Returns a frame (layer, expert, criterion, score; every expert
    has a row) and notes. A criterion that this model has no numbers for is left out with a note, or raises
    InputError if `strict`.
    """
    frames, notes = [], []
    tell = steps_of(progress)
    brought = own or {}
    tables = [name for name in brought if isinstance(brought[name], pd.DataFrame)]
    # Tables first: one that does not fit is refused before any text is read.
    frames += [own_scores(model, name, brought[name], texts) for name in tables]
    observed = [name for name in criteria if name in OBSERVED]
    if observed:
        found, why = _observed(model, texts, observed, tell)
        frames.append(found)
        notes += why
    if "router_norm" in criteria:
        norms, why = _router_norms(model)
        frames.append(norms)
        notes += why
    if notes and strict:
        raise InputError(f"{notes[0]} Leave this criterion out.")
    for name in [each for each in brought if each not in tables]:
        tell.stage(f"ranking {name!r}", 1, "call")
        frames.append(own_scores(model, name, brought[name], texts))
        tell.advance(1)
    if "causal_harm" in criteria:
        frames.append(causal_harm(model, texts, tell))
    columns = ["layer", "expert", "criterion", "score"]
    if not frames:
        return pd.DataFrame(columns=columns), notes
    whole: Any = pd.concat(frames, ignore_index=True)
    return whole[columns], notes


def _observed(
    model: Model, texts: TokenizedCorpus, names: list[str], tell: Steps
) -> tuple[Any, list[str]]:
    from moeaudit.observe import capture, expert_metrics

    tell.stage("routing", len(texts.chunks), "texts")
    trace = capture(model, texts, progress=tell.advance)
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


def causal_harm(
    model: Model, texts: TokenizedCorpus, progress: Steps | None = None
) -> pd.DataFrame:
    r"""Expected harm of each expert: \(T^{-1} \sum_{t \in A_e} \Delta \mathrm{NLL}_t\), nats a token.

    Exact single-token effects of `ablate(Zero())`, summed over the tokens that chose the expert and
    divided by all tokens of the layer: how much the loss would rise if these removals added up.
    An expert that no token chose has harm 0.
    """
    total: dict[tuple[int, int], float] = {
        (layer.index, e): 0.0 for layer in model.anatomy.layers for e in range(layer.num_experts)
    }
    tokens, tell = texts.n_targets, steps_of(progress)
    each = sum(layer.top_k for layer in model.anatomy.layers)
    tell.stage("causal harm", tokens * each, "removals")
    for a in range(0, len(texts.chunks), _CHUNKS):
        part = replace(texts, chunks=texts.chunks[a : a + _CHUNKS])
        effects: Any = ablate(model, part, Zero(), progress=tell.advance)
        sums = effects.groupby(["layer", "expert"])["delta_nll"].sum()
        for (layer, expert), value in sums.items():
            total[int(layer), int(expert)] += float(value)
    rows = [(layer, e, "causal_harm", value / tokens) for (layer, e), value in total.items()]
    return pd.DataFrame(rows, columns=["layer", "expert", "criterion", "score"])
