"""The audited model: a transformers model, its tokenizer, its anatomy, and where it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from .placement import input_device

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .anatomy import Anatomy

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


# The experts function lent to a caller's own model for the length of each pass.
LENT_EXPERTS: Kept[str] = Kept()


@dataclass(eq=False)
class Model:
    """A verified MoE language model in evaluation mode.

    `provenance` holds `source`, `revision`, `weights_sha256`, `dtype`, `experts_implementation`;
    `notes` says what of the model is not audited, and what was changed to load it.
    """

    name: str
    hf: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where token ids go and logits come from; never "meta", also when layers are offloaded."""
        return input_device(self.hf)

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    @property
    def notes(self) -> tuple[str, ...]:
        """What of this model is not audited, and what was done so that it could be."""
        return self.anatomy.notes

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: the token ids the model can read are below it."""
        return int(self.hf.get_input_embeddings().weight.shape[0])  # type: ignore[arg-type]

    @property
    def max_length(self) -> int:
        """The longest document, in tokens, that the model reads in one piece."""
        limits = [getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)]
        limits.append(getattr(self.tokenizer, "model_max_length", None))
        known = [int(n) for n in limits if isinstance(n, int) and 0 < n < 10**9]
        return min(known, default=2048)

    @property
    def experts_implementation(self) -> str:
        """Which of transformers' experts functions runs: `eager`, `batched_mm`, `grouped_mm` ..."""
        lent = LENT_EXPERTS.of(self.hf)
        if lent is not None:
            return lent
        config = getattr(self.anatomy.layers[0].experts, "config", None)
        return str(getattr(config, "_experts_implementation", None) or "eager")

    def __repr__(self) -> str:
        layers = self.anatomy.layers
        first = layers[0]
        return (
            f"{self.name}: {self.anatomy.architecture}, {self.anatomy.n_layers} decoder layers, "
            f"{len(layers)} of them MoE (layers {layers[0].index} to {layers[-1].index}), "
            f"{first.num_experts} experts, top-{first.top_k}, {self.hf.num_parameters():,} parameters, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device}"
            + "".join(f"; {note}" for note in self.notes)
        )
