"""The audited model: a transformers model, its tokenizer, its anatomy, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..anatomy import Anatomy, Kept
from ..placement import input_device

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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

    def _repr_html_(self) -> str:
        from .picture import page

        return page(self)
