"""What every single-cell engine shares: the outcome it reports and the checks on the cell it is asked for.

An engine recomputes one counterfactual (one expert removed for one token at one layer) by one full
forward of the whole chunk. Engines exist to check the census, so none of them uses its code.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ...errors import InputError, ModelError
from ...models import Model
from ...models.modes import evaluating


@dataclass(frozen=True)
class Outcome:
    """What removing the expert does to the prediction of the next token, in nats."""

    delta_nll: float
    kl: float
    flip: bool


def outcome(
    clean: Float[Tensor, " vocab"], ablated: Float[Tensor, " vocab"], target: int
) -> Outcome:
    """Compare two next-token distributions, given as logits.

    Args:
        clean, ablated: logits at one position, without and with the intervention.
        target: id of the token that really came next.

    Returns:
        `delta_nll` = NLL(ablated) - NLL(clean); `kl` = KL(clean || ablated), both in nats and
        computed in float64; `flip` = the most probable token changed.

    Raises:
        ModelError: if a logit is NaN (a logit of minus infinity is a legitimate zero probability).
    """
    if bool(clean.isnan().any()) or bool(ablated.isnan().any()):
        raise ModelError(
            "The model returned NaN logits, so no effect can be read from them. Expected finite "
            "numbers; check the checkpoint for NaN weights, or load it in float32."
        )
    log_p = torch.log_softmax(clean.double(), dim=-1)
    log_q = torch.log_softmax(ablated.double(), dim=-1)
    p = log_p.exp()
    # Tokens of zero clean probability contribute nothing, and -inf - -inf would be NaN.
    kl = torch.where(p > 0, p * (log_p - log_q), 0.0).sum()
    return Outcome(
        delta_nll=float(log_p[target] - log_q[target]),
        kl=float(kl),
        flip=bool(clean.argmax() != ablated.argmax()),
    )


class Engine(ABC):
    """Recomputes single cells of the census, one full forward each.

    Args:
        model: a loaded `Model`; its transformers model is never changed.

    Raises:
        ModelError: if the engine cannot ablate this model; the message is what `supports` returns.
    """

    name: ClassVar[str]

    def __init__(self, model: Model) -> None:
        reason = self.supports(model)
        if reason is not None:
            raise ModelError(reason)
        self.model = model
        self._clean: tuple[bytes, Tensor] | None = None

    @classmethod
    @abstractmethod
    def supports(cls, model: Model) -> str | None:
        """None if the engine can ablate this model, else a sentence that says why not."""

    @abstractmethod
    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        """Clean logits of one chunk, as the engine's own machinery computes them."""

    @abstractmethod
    def ablated_logits(
        self, ids: Int64[Tensor, "1 time"], position: int, layer: int, expert: int
    ) -> Float[Tensor, " vocab"] | None:
        """Logits at `position` with the expert's weight there set to zero; None if not active."""

    def effect(
        self, ids: Int64[np.ndarray, " time"], position: int, layer: int, expert: int
    ) -> Outcome:
        """Effect of removing one expert for one token at one layer, on the next token.

        Args:
            ids: token ids of the whole chunk; nothing before it is attended to.
            position: index in the chunk of the token whose routing is edited.
            layer: index of the decoder layer.
            expert: the expert whose routing weight is set to zero; the other weights stay.

        Raises:
            InputError: position without a next token, unknown layer or expert, or an expert that
                is not active for this token.
        """
        length = len(ids)
        if not 0 <= position < length - 1:
            raise InputError(
                f"Position {position} has no next token in a chunk of {length} tokens. Expected a "
                f"position between 0 and {length - 2}; check that effects and documents belong "
                "together."
            )
        num_experts = self.model.anatomy[layer].num_experts
        if not 0 <= expert < num_experts:
            raise InputError(
                f"Layer {layer} has no expert {expert}. Expected an index between 0 and "
                f"{num_experts - 1}; check that the effects were computed on this model."
            )
        tokens = torch.from_numpy(ids)[None].to(self.model.device)
        with torch.no_grad(), evaluating(self.model.hf):
            clean = self._clean_logits(tokens)
            ablated = self.ablated_logits(tokens, position, layer, expert)
        if ablated is None:
            raise InputError(
                f"Expert {expert} is not active at position {position} of layer {layer}, so there "
                "is nothing to remove. Expected one of the experts the router chose there; check "
                "that model, documents and effects belong together."
            )
        return outcome(clean[position], ablated, int(ids[position + 1]))

    def _clean_logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        # Cells are usually asked for document by document, so the last chunk is kept.
        key = ids.cpu().numpy().tobytes()
        if self._clean is None or self._clean[0] != key:
            self._clean = (key, self.logits(ids))
        return self._clean[1]


def structural_twin(module: nn.Module) -> nn.Module:
    """A copy of the module tree that shares every parameter and buffer with the original.

    Libraries that replace submodules or patch `forward` get the twin, so the original cannot be
    changed by them; it costs kilobytes, because no weight is copied.
    """
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, memo={id(tensor): tensor for tensor in tensors}).eval()
