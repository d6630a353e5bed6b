"""Operators that put another output in an expert's place: its mean, or its output elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int

from moeaudit.errors import InputError
from moeaudit.frames.shown import paragraph
from moeaudit.frames.waiting import counting
from moeaudit.models import Model, MoELayer
from moeaudit.models.contract import slot_contributions
from moeaudit.models.forward import clean_pass, evaluating
from moeaudit.text.for_model import tokens_for

from .base import BaseOperator, is_whole
from .draws import splitmix64, wrapped
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

    @cached_property
    def sha256(self) -> str:
        """A hash of every number here: operators that use them are told apart by it."""
        digest = hashlib.sha256()
        for key in sorted(self.said):
            found = self.said[key]
            digest.update(f"{key} {found.count}".encode())
            for tensor in (found.total, found.kept):
                digest.update(tensor.detach().cpu().double().numpy().tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        layers = len({layer for layer, _ in self.said})
        tokens = sum(found.count for found in self.said.values())
        return (
            f"Outputs of {len(self.said):,} experts in {layers} layers, {tokens:,} uses by tokens of "
            f"{self.n_documents:,} held-out documents"
        )

    def _repr_html_(self) -> str:
        return paragraph(f"{self!r}. For MeanOutput(...) and Resample(...).")

    def to_dict(self) -> dict[str, Any]:
        """Which outputs these are; the numbers themselves are too many for a table's metadata."""
        return {"documents": self.n_documents, "sha256": self.sha256}

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
    with counting(None, "expert outputs", len(texts.chunks), "texts") as tell:
        for chunk in texts.chunks:
            ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=model.device)[None]
            # One turn for the pass and for what is asked of the experts after it: no other pass of this
            # model may put its own answers in between.
            with evaluating(model.hf):
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
                        # Half precision would stop counting after some thousand tokens.
                        new = mine.to(torch.promote_types(mine.dtype, torch.float32)).sum(0)
                        total = new if before is None else before.total + new
                        said[key] = _Said(count, total, pool[best.to(pool.device)])
            tell(1)
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


class _HeldOut(BaseOperator):
    """Operators that need what experts said elsewhere."""

    held_out: ExpertOutputs

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "held_out": self.held_out.to_dict()}

    @classmethod
    def restored(cls, arguments: Mapping[str, Any], held_out: ExpertOutputs | None) -> BaseOperator:
        wanted = arguments["held_out"]
        if held_out is None or held_out.to_dict() != wanted:
            which = "none were given" if held_out is None else "others were given"
            raise InputError(
                f"{cls.__name__} needs the expert outputs that it was used with (of {wanted['documents']} documents, "
                f"SHA-256 {wanted['sha256'][:12]}), and {which}. Pass held_out=expert_outputs(...) of the same "
                "documents and seed, or the operator itself."
            )
        return cls(**{**arguments, "held_out": held_out})


@dataclass(frozen=True, eq=False)
class MeanOutput(_HeldOut):
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


def _numbers(seed: int, routing: Routing) -> Int[torch.Tensor, "positions top_k"]:
    """A random number from 0 up for each (position, rank)."""
    start = wrapped(seed * 0x9E3779B97F4A7C15 + routing.document)
    place = routing.positions[:, None] * 1_000_003 + routing.layer.index
    number = splitmix64(splitmix64(place + start) + routing.index * 0x632BE59BD9B4E019)
    return number & 0x7FFFFFFFFFFFFFFF


@dataclass(frozen=True, eq=False)
class Resample(_HeldOut):
    r"""Replace one active expert's output by what it said at a random held-out token that chose it.

    $y' = y - w_r E_r(x) + w_r E_r(x^*)$: the output stays typical of the expert, its content does not
    fit the token. The draw depends on `seed`, document, layer, position and expert only. `held_out` comes from
    `expert_outputs(model, other_documents)`; raises InputError as `MeanOutput` does.
    """

    held_out: ExpertOutputs
    seed: int = 0

    draws = True

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
