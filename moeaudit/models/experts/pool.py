"""The pool of experts that a document may choose from: those that its router prefers on average."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float

from moeaudit.errors import ContractError

from ..anatomy import MoELayer
from ..placement import weights_here
from ..precision import full, not_memory


def document_pool(
    probabilities: Float[torch.Tensor, "tokens experts"], size: int
) -> Bool[torch.Tensor, " experts"]:
    """The `size` experts of the largest mean router probability over a document's tokens (EMO, arXiv 2605.06663).

    Of equal means the lower number stands first.
    """
    mean = full(probabilities).mean(0)
    best = mean.sort(descending=True, stable=True).indices[:size]
    return torch.zeros_like(mean, dtype=torch.bool).index_fill(0, best, True)


@torch.no_grad()
def router_answer(layer: MoELayer, hidden: Float[torch.Tensor, "tokens d_model"]) -> tuple:
    """What the layer's router returns for hidden states alone, as a tuple.

    Raises ContractError for a layer without a router module, and for a router that wants more than that.
    """
    where = f"{layer.architecture}, layer {layer.index}"
    if layer.router is None:
        raise ContractError(
            f"{where} has no router module that scores its experts, so it has no pool of preferred experts."
        )
    try:
        with weights_here(layer.router):
            output = layer.router(hidden[None])
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        not_memory(error, f"running the router of {where}")
        raise ContractError(
            f"{where}: {type(layer.router).__name__} cannot be called with hidden states alone "
            f"({type(error).__name__}: {error}), so nothing can be said of its choice outside of the model."
        ) from error
    return output if isinstance(output, tuple) else (output,)


@torch.no_grad()
def router_probabilities(
    layer: MoELayer, hidden: Float[torch.Tensor, "tokens d_model"]
) -> Float[torch.Tensor, "tokens experts"]:
    """Softmax of the router's logits over all experts of the layer, chosen or not.

    Also for routers that score by a sigmoid: a pool is defined by EMO on a softmax. Values that stand as
    probabilities already (transformers 5.0 to 5.5.4 return them under the name of logits) are taken as they are.
    Raises ContractError for a router that cannot be called on hidden states alone or scores none of its experts.
    """
    where = f"{layer.architecture}, layer {layer.index}"
    for part in router_answer(layer, hidden):
        fits = isinstance(part, torch.Tensor) and part.is_floating_point()
        if fits and part.numel() == len(hidden) * layer.num_experts:
            scores = full(part.reshape(len(hidden), -1))
            sums = scores.sum(-1)
            if bool((scores >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
                return scores
            return scores.softmax(-1)
    raise ContractError(
        f"{where}: {type(layer.router).__name__} returns no score for each of its {layer.num_experts} experts, so no "
        "pool can be made."
    )
