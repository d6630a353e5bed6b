"""The group loss: how many picks fall on zero experts, not which expert gets how many."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from moeaudit.errors import InputError


def group_loss(
    probabilities: Float[Tensor, "tokens experts"],
    index: Int[Tensor, "tokens top_k"],
    zero: int,
    weight: float | int = 2.0,
    alpha: float | int = 0.1,
) -> Float[Tensor, ""]:
    r"""\(\alpha \frac{N + w N_Z}{K} \left(\frac{f_E P_E}{N} + \frac{f_Z P_Z}{w N_Z}\right)\), of one layer.

    The last `zero` of the experts are zero experts. \(f\) is the mean number of a token's picks in a group (they
    sum to K), \(P\) the mean router probability of a group; only \(P\) carries a gradient. It is smallest, and equal to
    alpha, where a share \(w N_Z / (N + w N_Z)\) of picks and probability falls on zero experts; w = 2 with
    half as many zero experts as others asks for 50 %. Within a group it asks for nothing. From the released
    code of ZEDA (arXiv 2605.18643).
    """
    experts = probabilities.shape[1] - zero
    if zero < 1 or experts < 1:
        raise InputError(
            f"The group loss was asked for {zero} zero experts among {probabilities.shape[1]}; it needs at least one, "
            "and one other."
        )
    top_k = index.shape[1]
    on_zero = (index >= experts).to(probabilities.dtype).sum(-1).mean()
    mass = probabilities[:, experts:].sum(-1).mean()
    others, whole = probabilities[:, :experts].sum(-1).mean(), experts + weight * zero
    parts = (top_k - on_zero) * others / experts + on_zero * mass / (weight * zero)
    return alpha * whole / top_k * parts
