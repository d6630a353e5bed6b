"""Effects of sampled removals in several kinds of numbers at once, in one pass over the weights.

A batch of copies of a short text goes through the model in float32, one layer widened at a time. The first copy
is as it is; each other one has one active expert removed at one token. After each decoder layer the same layer,
made half precision again, takes the same copies with hidden states of their own: so every kind of number
is carried through the whole model, and each layer's weights are needed once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from ..contract.probe import probe_ids
from ..forward import answering, evaluating
from ..placement.aside import head_of
from .memory import not_memory
from .widened import Wide, in_float32

if TYPE_CHECKING:
    from ..anatomy import MoELayer
    from ..model import Model

TOKENS = 9
# Copies of the text: few where each costs (a CPU, and layers of more than so many weights), else many.
FEW, MANY = 32, 128
_LARGE = 1 << 24
_TIMED, _TIMES = 3, 3  # layers that are timed, and how often each: the shortest counts
_LONG = 0.1  # seconds after which once is enough
_SEED = 0


@dataclass
class InKind:
    """The sampled effects in one kind of number."""

    effects: np.ndarray  # (removals,), nats
    here: (
        np.ndarray
    )  # (removals,), whether the expert that float32 removes was chosen in this kind, too
    seconds: float  # of all decoder layers for the batch, from those that were timed


@dataclass
class Sampled:
    """What a pass found: by kind of number, and why a kind could not be computed."""

    tokens: int
    copies: int
    found: dict[torch.dtype, InKind]
    failed: dict[torch.dtype, str]
    largest: float  # the largest number in a residual stream, in float32


def sampled(model: Model, kinds: Sequence[torch.dtype]) -> Sampled:
    """Effects of the same removals in float32 and in each of `kinds`. The model's weights are gone through once."""
    with evaluating(model.hf), in_float32(model) as wide:
        return _Pass(model, wide, list(kinds)).run()


@dataclass
class _Cells:
    """The removals in one MoE layer: which copies, where in the flattened batch, and which rank."""

    copy: torch.Tensor  # (cells,)
    at: torch.Tensor  # (cells,), in the batch flattened to tokens
    rank: torch.Tensor  # (cells,)
    expert: torch.Tensor | None = None  # (cells, 1), once float32 has chosen
    here: dict[torch.dtype, torch.Tensor] = field(default_factory=dict)


class _Pass:
    def __init__(self, model: Model, wide: Wide, kinds: list[torch.dtype]) -> None:
        self.model, self.wide = model, wide
        # The finer first: weights that are brought are cast from the kind that was tried before.
        self.kinds = sorted(kinds, key=lambda kind: torch.finfo(kind).eps)
        self.ids = probe_ids(model.hf, TOKENS)  # (1, tokens)
        self.copies = _copies(model, self.ids.device)
        self.positions = np.zeros(self.copies, dtype=np.int64)
        self.cells = self._cells()
        layers = len(model.anatomy.decoder_layers)
        some = [moe.index for moe in model.anatomy.layers]
        picked = np.linspace(0, len(some) - 1, min(_TIMED, len(some))).round().astype(int)
        self.timed, self.layers = {some[i] for i in picked}, layers
        self.seconds: dict[torch.dtype, list[float]] = {}
        self.kind: torch.dtype | None = (
            None  # the kind of the pass through a layer now; None: float32
        )
        self.hidden: dict[torch.dtype, torch.Tensor] = {}
        self.failed: dict[torch.dtype, str] = {}
        self.tail: tuple[Any, ...] | None = None
        self.largest: torch.Tensor = torch.zeros((), device=self.ids.device)
        self.busy = False

    def _cells(self) -> dict[int, _Cells]:
        """One removal a copy: layers in turn, position and rank at random."""
        rng, moes = np.random.default_rng(_SEED), self.model.anatomy.layers
        which: dict[int, list[tuple[int, int, int]]] = {}
        for copy in range(1, self.copies):
            moe = moes[(copy - 1) % len(moes)]
            position = int(rng.integers(TOKENS - 1))
            self.positions[copy] = position
            cell = (copy, copy * TOKENS + position, int(rng.integers(moe.top_k)))
            which.setdefault(moe.index, []).append(cell)
        device = self.ids.device
        made = {i: torch.tensor(cells, device=device) for i, cells in which.items()}
        return {i: _Cells(cells[:, 0], cells[:, 1], cells[:, 2]) for i, cells in made.items()}

    @torch.no_grad()
    def run(self) -> Sampled:
        model = self.model
        with ExitStack() as stack:
            for moe in model.anatomy.layers:
                if moe.index in self.cells:
                    stack.enter_context(answering(moe, self._answer(moe)))
            for i, layer in enumerate(model.anatomy.decoder_layers):
                hook = layer.register_forward_hook(self._after(i), with_kwargs=True)
                stack.callback(hook.remove)
            with suppress(_Through):
                model.hf(input_ids=self.ids.expand(self.copies, -1), use_cache=False)
        self.wide.narrow()
        found = {torch.float32: self._effects(torch.float32)}
        for kind in self.kinds:
            if kind not in self.failed:
                with self._told(kind):
                    self.wide.around.to(kind)
                    found[kind] = self._effects(kind)
        return Sampled(TOKENS, self.copies, found, self.failed, float(self.largest))

    def _answer(self, moe: MoELayer):
        cells = self.cells[moe.index]

        def answer(
            hidden: torch.Tensor,  # noqa: ARG001
            index: torch.Tensor,
            weight: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            mine, weighs = index[cells.at], weight[cells.at]
            if cells.expert is None:
                order = weighs.argsort(descending=True, stable=True)
                cells.expert = mine.gather(1, order.gather(1, cells.rank[:, None]))
            removed = mine == cells.expert
            cells.here[self.kind or torch.float32] = removed.any(1)
            weight = weight.clone()
            weight[cells.at] = weighs.masked_fill(removed, 0)
            return index, weight

        return answer

    def _after(self, i: int):
        def hook(layer: Any, args: tuple, kwargs: dict, output: Any) -> None:
            if self.busy:
                return
            self.busy = True
            whole, *rest = output if isinstance(output, tuple) else (output,)
            self.tail = tuple(rest) if isinstance(output, tuple) else None
            self.largest = self.largest.maximum(whole.abs().max())
            if i in self.timed:
                self._timed(torch.float32, lambda: layer(*args, **kwargs))
            for kind in self.kinds:
                if kind not in self.failed:
                    with self._told(kind):
                        self._shadow(kind, i, layer, args, kwargs)
            self.hidden[torch.float32] = whole
            self.kind, self.busy = None, False
            if i + 1 == self.layers:
                raise _Through

        return hook

    def _shadow(self, kind: torch.dtype, i: int, layer: Any, args: tuple, kwargs: dict) -> None:
        """The layer in `kind` on that kind's own hidden states."""
        assert self.wide.layer is not None
        self.wide.layer.to(kind)
        self.kind = kind

        def cast(x: Any) -> Any:
            floats = isinstance(x, torch.Tensor) and x.dtype == torch.float32
            return x.to(kind) if floats else x

        more, named = tree_map(cast, args), tree_map(cast, kwargs)
        mine = self.hidden.get(kind)
        if mine is not None:
            if more:
                more = (mine, *more[1:])
            else:
                named["hidden_states"] = mine
        if i in self.timed:
            output = self._timed(kind, lambda: layer(*more, **named))
        else:
            output = layer(*more, **named)
        self.hidden[kind] = output[0] if isinstance(output, tuple) else output

    def _timed(self, kind: torch.dtype, call: Any) -> Any:
        shortest, output = float("inf"), None
        for _ in range(_TIMES):
            _wait(self.ids.device)
            since = time.perf_counter()
            output = call()
            _wait(self.ids.device)
            shortest = min(shortest, time.perf_counter() - since)
            if shortest > _LONG:
                break
        self.seconds.setdefault(kind, []).append(shortest)
        return output

    def _told(self, kind: torch.dtype) -> _Told:
        return _Told(self, kind)

    def _effects(self, kind: torch.dtype) -> InKind:
        """NLL of each edited copy at its position, less that of the copy without an edit."""
        at = torch.as_tensor(self.positions, device=self.ids.device)  # (copies,)
        hidden = self.hidden.pop(kind)
        edited = hidden[torch.arange(self.copies, device=at.device), at][1:]
        clean = hidden[0, : TOKENS - 1]
        rows = torch.cat([clean, edited])
        logits = head_of(self.model, rows, self.ids[0, 0], self.tail, tokens=TOKENS).float()
        targets = self.ids[0, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits, torch.cat([targets, targets[at[1:]]]), reduction="none"
        )
        effects = loss[TOKENS - 1 :] - loss[at[1:]]
        here = torch.ones(self.copies, dtype=torch.bool, device=at.device)
        for cells in self.cells.values():
            here[cells.copy] = cells.here[kind]
        return InKind(
            effects.double().cpu().numpy(),
            here[1:].cpu().numpy(),
            self.layers * float(np.median(self.seconds[kind])),
        )


def _copies(model: Model, device: torch.device) -> int:
    largest = max(
        sum(p.numel() for p in layer.parameters()) for layer in model.anatomy.decoder_layers
    )
    return FEW if device.type == "cpu" and largest > _LARGE else MANY


class _Through(Exception):
    """All decoder layers are through; what comes after is asked of chosen rows alone."""


class _Told:
    """A kind that cannot be computed is left out, and why is kept; memory is no verdict."""

    def __init__(self, of: _Pass, kind: torch.dtype) -> None:
        self.of, self.kind = of, kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        not_memory(error, f"trying {self.of.model.name} in {self.kind}")
        first = (str(error).splitlines() or ["no message"])[0]
        self.of.failed[self.kind] = f"{type(error).__name__}: {first}"
        return True


def _wait(device: torch.device) -> None:
    """Until all that the device was given is done."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is not None and kind.type == device.type:
        torch.accelerator.synchronize(device)
