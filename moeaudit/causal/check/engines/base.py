"""What every single-cell engine shares: the outcome it reports and the checks on the cell it is asked for.

An engine recomputes one counterfactual (one row of an operator's table) by one full forward of the
whole chunk. It captures the router's answer by its own means, asks the operator for its edit of that
answer, and applies it by its own means. Engines exist to check the census, so none uses its code.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from moeaudit.errors import InputError, ModelError
from moeaudit.models import Model
from moeaudit.models.forward import evaluating
from moeaudit.models.placement import follow

from ...operators.draws import document_key
from ...operators.routing import Operator
from ...operators.weights import Zero
from ..edits import Answers, edits_of, frozen_above, recording
from ..row import Edit, Row


@dataclass(frozen=True)
class Outcome:
    """What the counterfactual does to the prediction of the next token, in nats."""

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
        ModelError: if the engine cannot edit this model; the message is what `supports` returns.
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
        """None if the engine can edit this model, else a sentence that says why not."""

    @abstractmethod
    def logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        """Clean logits of one chunk, as the engine's own machinery computes them."""

    @abstractmethod
    def edited_logits(
        self, ids: Int64[Tensor, "1 time"], edits: Mapping[int, Edit]
    ) -> Float[Tensor, "time vocab"]:
        """Logits of one chunk with the router's answers edited, by decoder layer index."""

    def effect(
        self,
        ids: Int64[np.ndarray, " time"],
        position: int,
        layer: int,
        expert: int | None = None,
        *,
        operator: Operator | None = None,
        rank: int | None = None,
        about: Mapping[str, Any] | None = None,
        frozen: bool = False,
    ) -> Outcome:
        """Effect of one counterfactual on the next token, by one full forward.

        Args:
            ids: token ids of the whole chunk; nothing before it is attended to.
            position: index in the chunk of the token whose routing is edited.
            layer: index of the decoder layer.
            expert: the expert that the row is about.
            operator: what is done; the removal of `expert` (`Zero`) if left out.
            rank, about: further columns of the effects table that name the row.
            frozen: whether later layers keep the clean routers' answers.

        Raises:
            InputError: position without a next token, unknown layer or expert, or a row that the
                operator does not have for this token (an expert that is not active, say).
            CannotExpress: an edit that this engine's library cannot hold.
        """
        length = len(ids)
        if not 0 <= position < length - 1:
            raise InputError(
                f"Position {position} has no next token in a chunk of {length} tokens. Expected a "
                f"position between 0 and {length - 2}; check that effects and documents belong "
                "together."
            )
        if rank is None or rank >= 0:  # other rows are about a shared expert, a set, all layers
            self._require_expert(layer, expert)
        tokens = torch.from_numpy(ids)[None].to(self.model.device)
        key = document_key(tokens)
        row = Row(layer, position, rank, expert, about or {}, strict=False, document=key)
        edits = edits_of(operator or Zero(), self.model.anatomy, row)
        with torch.no_grad(), evaluating(self.model.hf):
            clean = self._clean_logits(tokens)
            if frozen:
                answers: Answers = {}
                self.edited_logits(tokens, recording(self.model.anatomy, answers))
                edits |= frozen_above(row, answers, dict(edits))
            edited = self.edited_logits(tokens, edits)[position]
        return outcome(clean[position], edited, int(ids[position + 1]))

    def _require_expert(self, layer: int, expert: int | None) -> None:
        count = self.model.anatomy[layer].num_experts
        if expert is not None and not 0 <= expert < count:
            raise InputError(
                f"Layer {layer} has no expert {expert}. Expected an index between 0 and "
                f"{count - 1}; check that the effects were computed on this model."
            )

    def _clean_logits(self, ids: Int64[Tensor, "1 time"]) -> Float[Tensor, "time vocab"]:
        # Cells are usually asked for document by document, so the last chunk is kept.
        key = ids.cpu().numpy().tobytes()
        if self._clean is None or self._clean[0] != key:
            self._clean = (key, self.logits(ids))
        return self._clean[1]


def structural_twin(module: nn.Module) -> nn.Module:
    """A copy of the module tree that shares every parameter and buffer with the original.

    Libraries that replace submodules or patch `forward` get the twin, so the original cannot be
    changed by them; it costs kilobytes, because no weight is copied. Weights that are streamed come and go
    in the twin as they do in the original.
    """
    tensors = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, memo={id(tensor): tensor for tensor in tensors}).eval()
    follow(twin, module)
    return twin
