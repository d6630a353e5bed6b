"""Where a model's experts are: plain data, found by `find.py`, checked by `contract.py`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from moeaudit.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MoELayer:
    """One decoder layer that holds routed experts.

    `index` is the decoder layer's own index (DeepSeek-V2-Lite's first MoE layer is 1), never an
    ordinal among MoE layers. `experts` is called as `experts(hidden, top_k_index, top_k_weights)`
    with shapes `"tokens d_model"`, `"tokens top_k"`, `"tokens top_k"`.
    """

    index: int
    path: str
    experts_path: str
    experts: nn.Module = field(repr=False, compare=False)
    router_path: str | None
    router: nn.Module | None = field(repr=False, compare=False)
    num_experts: int
    top_k: int
    weights_sum_to_one: bool
    # The module that holds the experts: runs the router, calls the experts, adds what is shared.
    block_path: str = ""
    block: nn.Module | None = field(default=None, repr=False, compare=False)
    architecture: str = ""

    @property
    def name(self) -> str:
        """The layer as messages name it."""
        return f"{self.architecture}, layer {self.index}"


@dataclass(frozen=True)
class Anatomy:
    """The MoE layers of a model, and the stack of decoder layers they sit in."""

    architecture: str
    layers_path: str
    decoder_layers: tuple[nn.Module, ...] = field(repr=False, compare=False)
    layers: tuple[MoELayer, ...]
    notes: tuple[str, ...] = ()

    @property
    def n_layers(self) -> int:
        """Number of decoder layers, dense ones included."""
        return len(self.decoder_layers)

    @property
    def indices(self) -> list[int]:
        """Decoder-layer indices of the MoE layers, ascending."""
        return [layer.index for layer in self.layers]

    @property
    def tied(self) -> tuple[tuple[int, ...], ...]:
        """Groups of MoE layers that share one bank of experts: the same tensors, not equal ones; () for none.

        Layers that are streamed from files are brought one by one and share nothing in memory.
        """
        groups: dict[frozenset[int], list[int]] = {}
        for layer in self.layers:
            bank = frozenset(id(p) for p in layer.experts.parameters())
            groups.setdefault(bank, []).append(layer.index)
        return tuple(tuple(sorted(group)) for group in groups.values() if len(group) > 1)

    def __getitem__(self, index: int) -> MoELayer:
        for layer in self.layers:
            if layer.index == index:
                return layer
        kind = (
            f"is a dense layer of this {self.architecture}"
            if 0 <= index < self.n_layers
            else f"does not exist in this {self.architecture} of {self.n_layers} decoder layers"
        )
        raise InputError(
            f"Layer {index} {kind}. Its MoE layers, numbered as the decoder numbers them, are "
            f"{self.indices}; name one of those."
        )

    def select(self, layers: Any) -> list[MoELayer]:
        """The MoE layers asked for (numbers in a list, a range, an array), ascending; all of them for None.

        Raises InputError for anything else, and for layers that are none of this model's.
        """
        if layers is None:
            return list(self.layers)
        named = _numbers(layers)
        if not named:
            raise InputError(
                f"No layer was named. The MoE layers of this {self.architecture} are "
                f"{self.indices}; leave `layers` out to take all of them."
            )
        return [self[index] for index in sorted(set(named))]


def _numbers(layers: Any) -> list[int]:
    named: list[Any] = (
        list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [None]
    )
    if any(isinstance(each, bool) or not hasattr(each, "__index__") for each in named):
        raise InputError(
            f"layers = {layers!r}: a list of decoder layer numbers was expected, such as [0, 3]."
        )
    return [operator.index(each) for each in named]


T = TypeVar("T")


class Kept(Generic[T]):
    """One kind of fact about models (or parts of them), each kept as long as its module lives.

    Whatever a room finds out once about a model (its anatomy, which engine is exact, whether its
    experts take one slot) it keeps in one of these, so that no `Model` object carries it.
    """

    def __init__(self) -> None:
        self._facts: WeakKeyDictionary[nn.Module, T] = WeakKeyDictionary()

    def of(self, module: nn.Module) -> T | None:
        return self._facts.get(module)

    def keep(self, module: nn.Module, fact: T) -> T:
        self._facts[module] = fact
        return fact

    def forget(self, module: nn.Module) -> None:
        self._facts.pop(module, None)

    def setdefault(self, module: nn.Module, make: Callable[[], T]) -> T:
        """The fact kept, or a new one from `make`."""
        known = self.of(module)
        return self.keep(module, make()) if known is None else known


_FOUND: Kept[Anatomy] = Kept()


def remember(hf: nn.Module, anatomy: Anatomy) -> Anatomy:
    """Keep what was found; inside a trace of another library no forward can be run to find it."""
    return _FOUND.keep(hf, anatomy)


def known_anatomy(hf: nn.Module) -> Anatomy | None:
    """The anatomy that `load` found in this very module, or None if it was never loaded."""
    return _FOUND.of(hf)
