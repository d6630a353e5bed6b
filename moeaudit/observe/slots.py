"""What each chosen expert puts out, the router logit it was chosen with, and who is next in line."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from moeaudit.errors import ContractError, InputError
from moeaudit.models import MoELayer
from moeaudit.models.contract import slot_contributions, unexplained
from moeaudit.models.placement import weights_here
from moeaudit.models.precision import full
from moeaudit.models.router import answer_without, require_reproduced

from .layers import LayerRecord

_ROWS_TIMES_WIDTH = 2**25  # bounds the memory of one call of the experts, or of a router
NEXT = "next"
NOBODY = -1


def slot_norms(
    layer: MoELayer, record: LayerRecord, rows: int
) -> tuple[Float[Tensor, "rows top_k"], float]:
    r"""L2 norm of every chosen expert's own output \(E_e(x)\), before its routing weight.

    The experts module is linear in the weights, so it is called once with one slot per row and
    weight 1, which gives \(E_e(x)\) exactly as the model computes it (biases, clamps and norms
    after the expert included). Dividing a weighted output by its weight would lose digits.

    Returns:
        The norms of the first `rows` tokens, and the largest difference between the weighted sum
        of the slots and the routed output of the pass, relative to the largest sum of absolute
        contributions.

    Raises:
        ContractError: if that difference exceeds what rounding explains.
    """
    top_k, d_model = record.index.shape[1], record.hidden.shape[1]
    block = max(1, _ROWS_TIMES_WIDTH // (top_k * d_model))
    norms, worst, allowed = [], 0.0, 0.0
    for start in range(0, rows, block):
        part = slice(start, min(start + block, rows))
        index, weight = record.index[part], record.weight[part]
        with torch.no_grad():
            slots = slot_contributions(
                layer.experts, record.hidden[part], index, torch.ones_like(weight)
            )  # [block, top_k, d_model]
        norms.append(full(slots).norm(dim=-1))
        off, allowed = unexplained(slots, weight, record.routed[part])
        worst = off if off != off else max(worst, off)  # a NaN stays
    if not worst <= allowed:
        raise ContractError(
            f"In layer {layer.index} ({layer.experts_path}, {type(layer.experts).__name__}) the "
            f"weighted outputs of the chosen experts do not add up to the routed output: they "
            f"differ by {worst:.1e} of what is added up, and {allowed:.1e} is the most that "
            "rounding explains. The experts module is expected to be linear in the routing weights."
        )
    return torch.cat(norms), worst


def next_in_line(
    layer: MoELayer,
    hidden: Float[Tensor, "rows d_model"],
    index: Int[Tensor, "rows top_k"],
    weight: Float[Tensor, "rows top_k"],
) -> tuple[Int[Tensor, "rows top_k"], str | None]:
    """For each chosen expert the one that enters in its place, as `Reroute` has it; the router alone is run.

    Where banning one lets in several, as limits on groups of experts may, the one of the largest weight. -1 everywhere,
    and the reason, for a router that cannot be run on its own or a layer in which nobody is left.
    """
    top_k = index.shape[1]
    step = max(1, _ROWS_TIMES_WIDTH // (hidden.shape[1] * top_k))
    parts = []
    try:
        require_reproduced(layer, hidden, index, weight)
        for a in range(0, len(hidden), step):
            mine = index[a : a + step].long()
            banned = torch.nn.functional.one_hot(mine, layer.num_experts).bool().flatten(0, 1)
            rows = hidden[a : a + step].repeat_interleave(top_k, 0)
            again, weighs = answer_without(layer, rows, banned)
            again, weighs = (x.view(len(mine), top_k, top_k) for x in (again, weighs))
            stayed = (again[..., None] == mine[:, None, None]).any(-1)
            largest = weighs.float().masked_fill(stayed, -torch.inf).argmax(-1, keepdim=True)
            entered = again.gather(-1, largest).squeeze(-1)
            parts.append(entered.masked_fill(stayed.all(-1), NOBODY))
    except (ContractError, InputError) as why:
        return torch.full_like(index, NOBODY, dtype=torch.long), str(why)
    return torch.cat(parts), None


def chosen_logits(
    layer: MoELayer, record: LayerRecord
) -> tuple[Float[Tensor, "time top_k"] | None, str | None]:
    """The router's raw logit of each chosen expert, or None and the reason why not.

    Some releases of transformers return probabilities under the name of router logits, and some
    routers apply a sigmoid, so what the router returns is compared with its own linear map of the
    hidden state; that map is used when the returned values turn out to be a squashed version.
    """
    if layer.router is None:
        return None, "the layer has no router module of its own"
    if len(record.router_calls) != 1:
        return None, f"the router was called {len(record.router_calls)} times in one forward"
    given, output = record.router_calls[0]
    rows = len(record.hidden)
    parts = output if isinstance(output, (tuple, list)) else (output,)
    returned = [
        part.reshape(rows, -1).float()
        for part in parts
        if isinstance(part, Tensor)
        and part.is_floating_point()
        and part.numel() == rows * layer.num_experts
        and part.shape[-1] == layer.num_experts
    ]
    linear = _linear_map(layer, given.reshape(rows, -1))
    index = record.index.long()
    if linear is None:
        raw = [part for part in returned if not _squashed(part)]
        if not raw:
            return None, "the router returns no raw logits and its linear map was not found"
        return raw[0].gather(1, index), None
    for part in returned:
        if _close(part, linear):
            return part.gather(1, index), None
    squashes = (linear.softmax(dim=-1), linear.sigmoid())
    if any(_close(part, squashed) for part in returned for squashed in squashes):
        return linear.gather(1, index), None
    return None, "the router returns nothing that its linear map of the hidden state explains"


def _linear_map(layer: MoELayer, given: Tensor) -> Tensor | None:
    """Logits recomputed from the router's own weight, where it has one of the plain shape."""
    router = layer.router
    assert router is not None
    with torch.no_grad(), weights_here(router):
        weight, bias = getattr(router, "weight", None), getattr(router, "bias", None)
        if not isinstance(weight, Tensor) or weight.shape != (layer.num_experts, given.shape[1]):
            return None
        if weight.is_meta:  # kept elsewhere by a hook that is not accelerate's
            return None
        logits = torch.nn.functional.linear(given.float(), weight.to(given.device).float())
        if isinstance(bias, Tensor) and bias.shape == (layer.num_experts,):
            logits = logits + bias.to(given.device).float()
    return logits


def _close(found: Tensor, expected: Tensor) -> bool:
    # Routers often work in half precision; logits differ from probabilities by far more than this.
    return torch.allclose(found, expected, rtol=2e-2, atol=1e-2 * float(expected.abs().max()))


def _squashed(values: Tensor) -> bool:
    """Whether the values look like probabilities rather than logits."""
    return bool((values >= 0).all()) and bool((values <= 1).all())
