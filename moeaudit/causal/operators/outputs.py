"""Operators that put another output in an expert's place: its mean, or its output elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.contract import slot_contributions
from moeaudit.models.forward import clean_pass
from moeaudit.text.for_model import tokens_for

from ..check.handover import Handover
from .arguments import is_whole
from .routing import Edits, Routing
from .weights import each_rank


@dataclass(eq=False)
class _Said:
    """What one expert said: a running sum, and a random few of its outputs."""

    count: int
    total: torch.Tensor  # (d_model,)
    kept: torch.Tensor  # (tokens, d_model)


@dataclass(frozen=True, eq=False)
class ExpertOutputs:
    """Unweighted outputs of experts on held-out tokens that chose them; from `expert_outputs`."""

    said: dict[tuple[int, int], _Said] = field(repr=False)
    n_documents: int

    def _of(self, layer: MoELayer, expert: int) -> _Said:
        found = self.said.get((layer.index, expert))
        if found is None:
            raise InputError(
                f"{layer.name}: no token of the {self.n_documents} held-out documents chose expert {expert}, so "
                "nothing can stand in its place. Collect outputs on more text: expert_outputs(model, documents)."
            )
        return found

    def mean(self, layer: MoELayer, expert: int) -> torch.Tensor:
        """Mean output, `"d_model"`. Raises InputError where no held-out token chose the expert."""
        found = self._of(layer, expert)
        return found.total / found.count

    def some(self, layer: MoELayer, expert: int) -> torch.Tensor:
        """A random few outputs, `"tokens d_model"`. Raises InputError as `mean` does."""
        return self._of(layer, expert).kept


@torch.no_grad()
def expert_outputs(model: Model, docs: Any, *, keep: int = 64, seed: int = 0) -> ExpertOutputs:
    """Collect what experts say on `docs`, one document at a time.

    Take other documents than those that effects are measured on. All tokens enter the means; of
    each expert's outputs a uniform random `keep` are kept. Raises InputError for texts that the
    model cannot read.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"expert_outputs() was given a {type(model).__name__} as its model; load it first: "
            "expert_outputs(moeaudit.load(...), docs)."
        )
    texts = tokens_for(model, docs)
    generator = torch.Generator().manual_seed(seed)
    said: dict[tuple[int, int], _Said] = {}
    priority: dict[tuple[int, int], torch.Tensor] = {}
    for chunk in texts.chunks:
        ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=model.device)[None]
        _, seen = clean_pass(model, list(model.anatomy.layers), ids)
        for layer in model.anatomy.layers:
            given = seen[layer.index]
            ones = torch.ones_like(given.weight)
            out = slot_contributions(layer.experts, given.hidden, given.index, ones)
            for expert in given.index.unique().tolist():
                key, mine = (layer.index, expert), out[given.index == expert]
                before = said.get(key)
                # Keeping the outputs with the largest random numbers keeps a uniform sample.
                drawn = torch.rand(len(mine), generator=generator)
                drawn = drawn if before is None else torch.cat([priority[key], drawn])
                pool = mine if before is None else torch.cat([before.kept, mine])
                best = drawn.topk(min(keep, len(drawn))).indices
                priority[key] = drawn[best]
                count = len(mine) + (0 if before is None else before.count)
                total = mine.sum(0) if before is None else before.total + mine.sum(0)
                said[key] = _Said(count, total, pool[best.to(pool.device)])
    return ExpertOutputs(said, texts.n_documents)


def _require_outputs(operator: str, given: object) -> None:
    if not isinstance(given, ExpertOutputs):
        raise InputError(
            f"{operator}() was given a {type(given).__name__}; what experts say on other documents was "
            f"expected: {operator}(expert_outputs(model, other_documents))."
        )


def _instead(routing: Routing, vector: torch.Tensor) -> Edits:
    """Each active expert's weighted output replaced by `vector`, `"positions top_k d_model"`."""
    rank, _, _ = each_rank(routing)
    return Edits(rank, routing.index[..., None], -routing.weight[..., None], vector=vector)


@dataclass(frozen=True, eq=False)
class MeanOutput(Handover):
    r"""Replace one active expert's output by its mean over held-out tokens that chose it.

    $y' = y - w_r E_r(x) + w_r \bar E_r$: what the expert always says stays, what it says about this
    token goes. `held_out` comes from `expert_outputs(model, other_documents)`. Raises InputError
    where no held-out token chose an expert that is active here.
    """

    held_out: ExpertOutputs

    def __post_init__(self) -> None:
        _require_outputs("MeanOutput", self.held_out)

    @property
    def name(self) -> str:
        return "mean output"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        used, place = routing.index.unique(return_inverse=True)
        means = torch.stack([self.held_out.mean(routing.layer, int(e)) for e in used])
        return _instead(routing, routing.weight[..., None] * means[place].to(routing.weight.dtype))


def _numbers(seed: int, routing: Routing) -> torch.Tensor:
    """A random number for each (position, rank), the same however positions are batched.

    SplitMix64 (Steele, Lea, Flood 2014) of seed, layer, position and expert.
    """
    p, k = routing.index.shape
    place = routing.positions[:, None] * 1_000 + torch.arange(k, device=routing.index.device)
    z = (place * 10_007 + routing.layer.index) * 65_537 + routing.index + seed * 0x2545F4914F6CDD
    for factor, shift in ((-0x40A7B892E31B1A47, 30), (-0x6B2FB644ECCEEE15, 27)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return (z ^ ((z >> 31) & ((1 << 33) - 1))) & 0x7FFFFFFFFFFFFFFF


@dataclass(frozen=True, eq=False)
class Resample(Handover):
    r"""Replace one active expert's output by what it said at a random held-out token that chose it.

    $y' = y - w_r E_r(x) + w_r E_r(x^*)$: the output stays typical of the expert, its content does not
    fit the token. The draw depends on `seed`, layer, position and expert only. `held_out` comes from
    `expert_outputs(model, other_documents)`; raises InputError as `MeanOutput` does.
    """

    held_out: ExpertOutputs
    seed: int = 0

    def __post_init__(self) -> None:
        _require_outputs("Resample", self.held_out)
        if not is_whole(self.seed):
            raise InputError(f"Resample(seed={self.seed!r}): a whole number was expected.")

    @property
    def name(self) -> str:
        return f"resample (seed {self.seed})"

    def rows(self, layer: MoELayer) -> int:
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        number = _numbers(self.seed, routing)
        width = routing.hidden.shape[-1]
        vector = routing.weight.new_empty(*routing.index.shape, width)
        for expert in routing.index.unique().tolist():
            here = routing.index == expert
            pool = self.held_out.some(routing.layer, expert)
            vector[here] = pool[(number[here] % len(pool)).to(pool.device)].to(vector.dtype)
        return _instead(routing, routing.weight[..., None] * vector)
