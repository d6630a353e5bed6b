"""What calibration needs of a language model's pass over documents: confidences, and the routing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from moeaudit.calibration.recalibrate.temperature.grid import TEMPERATURES, TemperatureGrid
from moeaudit.calibration.routing.groups import cancellation, gate_entropy, router_vectors
from moeaudit.causal.walk.forwards import applied
from moeaudit.errors import InputError, ModelError
from moeaudit.frames import Frame
from moeaudit.observe.layers import layer_records
from moeaudit.observe.slots import slot_norms
from moeaudit.observe.tables import prediction_columns

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.text import TokenizedCorpus

_ROWS = 256  # rows of logits worked on at a time


@dataclass(frozen=True)
class RoutingSeen:
    """What the routers did at each predicted token; a column or a layer for each MoE layer."""

    layers: list[int]
    top1: np.ndarray  # (tokens, layers), expert numbers
    entropy: Float[np.ndarray, "tokens layers"]  # of the chosen experts' weights, nats
    cancellation: Float[np.ndarray, "tokens layers"]
    vectors: Float[np.ndarray, "tokens width"]  # all layers' weights, one after another


@dataclass(frozen=True)
class Reading:
    """One model over one set of documents. Rows of all parts are the same tokens in one order.

    `tokens`: document, domain, position, nll, entropy (nats), confidence, correct.
    """

    tokens: Frame
    grid: TemperatureGrid
    routing: RoutingSeen | None = None


def read(
    model: Model,
    texts: TokenizedCorpus,
    intervention: Any = None,
    *,
    routing: bool = False,
    temperatures: Float[np.ndarray, " temperatures"] = TEMPERATURES,
) -> Reading:
    """Run `model`, as it is or with an intervention applied, over tokenised documents.

    `intervention` is None, another loaded Model that reads the same tokens (pruned, tied, edited
    on disk), or an operator that can be applied to every forward, such as `Without`. `temperatures` are the grid's.
    """
    reader, inside = _applied(model, intervention)
    frames, grids, seen = [], [], []
    with inside, torch.no_grad():
        for chunk in texts.chunks:
            ids = torch.from_numpy(chunk.ids)[None].to(reader.device)
            logits, records = layer_records(reader, ids)
            rows = len(chunk.ids) - 1
            logits, target = logits[:rows], ids[0, 1:]
            if bool(logits.isnan().any()):
                raise ModelError(
                    f"{reader.name} gives NaN logits in document {chunk.document}; load it with "
                    "dtype='float32'."
                )
            columns = prediction_columns(logits, target)
            del columns["top"]  # which token it is does not matter here
            frames.append(
                pd.DataFrame(
                    {
                        "document": chunk.document,
                        "domain": chunk.domain,
                        "position": np.arange(chunk.start, chunk.start + rows),
                        **columns,
                    }
                )
            )
            grids.append(_grid(logits, target, temperatures))
            if routing:
                seen.append(_routing(reader, records, rows))
    tokens = pd.concat(frames, ignore_index=True)
    tokens["correct"] = tokens["correct"].astype(bool)
    return Reading(tokens, TemperatureGrid.joined(grids), _joined(seen) if seen else None)


def _applied(model: Model, intervention: Any) -> tuple[Model, AbstractContextManager[Any]]:
    """The model that reads, and the context in which it does."""
    from moeaudit.models import Model

    if intervention is None:
        return model, nullcontext()
    if isinstance(intervention, Model):
        if intervention.vocab_size != model.vocab_size:
            raise InputError(
                f"{intervention.name} has a vocabulary of {intervention.vocab_size} tokens and "
                f"{model.name} one of {model.vocab_size}; only models that read the same tokens can be "
                "compared token by token."
            )
        return intervention, nullcontext()
    if getattr(intervention, "scope", None) != "model":
        raise InputError(
            f"{getattr(intervention, 'name', type(intervention).__name__)!r} edits single positions and "
            "is no model of its own. Calibration under intervention needs a set of experts, "
            "Without({layer: [experts]}), or another loaded model."
        )
    return model, applied(intervention, model)


def _grid(
    logits: torch.Tensor, target: torch.Tensor, temperatures: np.ndarray = TEMPERATURES
) -> TemperatureGrid:
    """Loss and confidence at every temperature of the grid, float32."""
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(target), _ROWS):
        z = logits[start : start + _ROWS].float()
        z = z - z.max(dim=-1, keepdim=True).values
        true = z.gather(1, target[start : start + _ROWS, None])[:, 0]
        total = torch.stack([(z / t).exp().sum(dim=-1) for t in temperatures.tolist()], dim=1)
        nll = total.log() - true[:, None] / torch.from_numpy(temperatures).to(z)
        parts.append([nll.cpu().numpy(), (1 / total).cpu().numpy()])
    nll, confidence = (np.concatenate(part) for part in zip(*parts))
    return TemperatureGrid(temperatures, nll, confidence)


def _routing(model: Model, records: Any, rows: int) -> RoutingSeen:
    top1, entropy, cancelled, vectors = [], [], [], []
    for index, record in records.items():
        layer = model.anatomy[index]
        expert = record.index[:rows].cpu().numpy().astype(np.int64)
        weight = record.weight[:rows].float().cpu().numpy().astype(np.float64)
        norms = slot_norms(layer, record, rows)[0].cpu().numpy().astype(np.float64)
        routed = record.routed[:rows].float().norm(dim=-1).cpu().numpy().astype(np.float64)
        top1.append(expert[np.arange(rows), weight.argmax(axis=1)])
        entropy.append(gate_entropy(np.abs(weight)))
        cancelled.append(cancellation(norms * np.abs(weight), routed))
        vectors.append(router_vectors(expert, weight, layer.num_experts))
    return RoutingSeen(
        layers=list(records),
        top1=np.stack(top1, axis=1),
        entropy=np.stack(entropy, axis=1),
        cancellation=np.stack(cancelled, axis=1),
        vectors=np.concatenate(vectors, axis=1),
    )


def _joined(parts: list[RoutingSeen]) -> RoutingSeen:
    names = ("top1", "entropy", "cancellation", "vectors")
    return RoutingSeen(
        parts[0].layers, *(np.concatenate([getattr(p, name) for p in parts]) for name in names)
    )
