"""The weights and the configuration of a model without some experts.

Nothing is known about architectures here: the model's own class, built from a configuration with
fewer experts, says which tensors lose rows. Those rows are taken out; everything else must fit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped

from moeaudit.errors import ModelError
from moeaudit.models import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_COUNTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")


def smaller_config(model: Model, after: int) -> tuple[Any, list[str]]:
    """A copy of the configuration with `after` experts, and the names that held the number."""
    config = copy.deepcopy(model.hf.config)
    inner = config.get_text_config()
    # Several names may lead to one number; only what is stored is changed. Layers of a model object may
    # differ, and its configuration still states one of their numbers.
    before = {layer.num_experts for layer in model.anatomy.layers}
    names = [n for n in _COUNTS if n in vars(inner) and getattr(inner, n) in before]
    if not names:
        raise ModelError(
            f"{model.name}: its configuration ({type(inner).__name__}) states the number of experts "
            f"under none of the names {', '.join(_COUNTS)}, so a checkpoint with fewer cannot be "
            "described. Run the pruned model with its weights in place: moeaudit.without_experts(model, "
            "{layer: experts})."
        )
    for name in names:
        setattr(inner, name, after)
    return config, names


def cut_tensors(model: Model, config: Any, after: int) -> dict[str, int]:
    """Which tensors lose rows in a model of `config`, and the layer whose experts they hold; nothing is copied.

    Raises ModelError where the smaller model wants something else than rows of what is there.
    """
    wanted, found = _bones(model, config).state_dict(), model.hf.state_dict()
    layer_of = {f"{layer.path}.": layer for layer in model.anatomy.layers}
    cut: dict[str, int] = {}
    for name, tensor in found.items():
        target = wanted.get(name)
        layer = next((each for path, each in layer_of.items() if name.startswith(path)), None)
        if target is not None and target.shape == tensor.shape:
            continue
        if target is None or layer is None:
            raise ModelError(
                f"{model.name}: the tensor '{name}' has no place in a model of fewer experts, so no "
                "checkpoint can be written that transformers would read back."
            )
        _dimension(model, name, tensor, target, layer.num_experts, after)
        cut[name] = layer.index
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise ModelError(
            f"{model.name}: a model of fewer experts wants the tensor '{missing[0]}', which this model "
            "does not have; no checkpoint can be written."
        )
    return cut


def smaller_model(
    model: Model, config: Any, keep: Mapping[int, Sequence[int]]
) -> tuple[PreTrainedModel, list[str]]:
    """A model of the same class with the kept experts' weights, and which tensors lost rows."""
    cut = cut_tensors(model, config, len(next(iter(keep.values()))))
    small = _bones(model, config)
    wanted, state = small.state_dict(), dict(model.hf.state_dict())
    for name, layer in cut.items():
        experts = model.anatomy[layer].num_experts
        state[name] = _rows(model, name, state[name], wanted[name], experts, keep[layer])
    small.load_state_dict(state, assign=True)
    small.tie_weights()
    return small, list(cut)


def _bones(model: Model, config: Any) -> Any:
    with torch.device("meta"):
        return type(model.hf)(config)


def _rows(
    model: Model,
    name: str,
    tensor: Shaped[torch.Tensor, "..."],
    target: Shaped[torch.Tensor, "..."],
    experts: int,
    kept: Sequence[int],
) -> Shaped[torch.Tensor, "..."]:
    """The kept experts' part of a tensor, along the one dimension that counts experts."""
    along = _dimension(model, name, tensor, target, experts, len(kept))
    index = torch.as_tensor(list(kept), device=tensor.device)
    return tensor.index_select(along, index).contiguous()


def _dimension(
    model: Model,
    name: str,
    tensor: Shaped[torch.Tensor, "..."],
    target: Shaped[torch.Tensor, "..."],
    experts: int,
    after: int,
) -> int:
    """The one dimension that counts experts."""
    shapes = list(zip(tensor.shape, target.shape))
    moved = [i for i, (a, b) in enumerate(shapes) if a != b]
    if tensor.dim() != target.dim() or len(moved) != 1 or shapes[moved[0]] != (experts, after):
        raise ModelError(
            f"{model.name}: the tensor '{name}' of shape {tuple(tensor.shape)} would have to become "
            f"{tuple(target.shape)} in a model of fewer experts, which is not a choice among its "
            f"{experts} experts. This architecture cannot be exported."
        )
    return moved[0]
