"""The sizes of a model's layers, from its class built without weights (on torch's `meta` device)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moeaudit.errors import ModelError

from ..anatomy import Anatomy, MoELayer
from ..find import looks_like_experts, newer, split_path
from .config import Found

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Under which name a configuration says how many experts a token goes to.
_TOP_K = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"),
    *("moe_top_k", "top_k_experts", "moe_k", "num_selected_experts"),
)


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer. Sizes are in numbers of weights; `moe` is None in a dense layer.

    `cached`: numbers that generation keeps of each earlier token, as transformers caches them (keys and values; with
    latent attention the latent vector and the rotated part of the key); None where the layer keeps something else.
    `dense`: matrices that every token goes through (attention projections, router, shared expert or the
    dense MLP). `routed`: matrices of one routed expert. `parameters`: what the layer holds, with a bank of experts that
    it shares with others. `per_key`: multiplications for each key that a
    token attends to, heads x (query width + value width); `window`: how many keys at most.
    """

    index: int
    moe: MoELayer | None
    dense: int
    routed: int
    per_key: int
    window: int | None
    parameters: int
    matrices: tuple[tuple[int, int, int], ...]  # (in, out, how many a token uses)
    cached: int | None = None

    @property
    def active(self) -> int:
        """Weights of the matrices that one token goes through."""
        return self.dense + (self.moe.top_k * self.routed if self.moe else 0)


@dataclass(frozen=True)
class Shapes:
    """A model's sizes. `head` is hidden width x vocabulary; tied weights are counted once in `parameters`."""

    architecture: str
    layers: tuple[LayerShape, ...]
    hidden: int
    vocab: int
    parameters: int
    outside: int  # parameters outside the decoder layers: embedding, head, last norm
    max_length: int
    by_rows: bool  # every layer mixes tokens by softmax attention, so that rows can follow
    anatomy: Anatomy  # of the model without weights

    @property
    def moe(self) -> list[MoELayer]:
        return list(self.anatomy.layers)

    @property
    def head(self) -> int:
        return self.hidden * self.vocab

    @property
    def active(self) -> int:
        """Weights that a token goes through, at every site; the embedding's row and the head included."""
        return sum(layer.active for layer in self.layers) + self.hidden + self.head

    @property
    def largest(self) -> int:
        """Parameters of the largest decoder layer."""
        return max(layer.parameters for layer in self.layers)


def shapes_of(found: Found) -> Shapes:
    """Sizes of the model that a configuration describes.

    The model is built by transformers' own class without weights, so the parameters are exact. That its
    experts keep the router contract is seen only when it is loaded (`moeaudit inspect`).

    Raises ModelError for an architecture that transformers has no language model for, one without
    routed experts in fused form, and one whose top-k no module and no field of the configuration says.
    """
    return measured_shapes(without_weights(found), found.name)


def without_weights(found: Found) -> PreTrainedModel:
    """The model of a configuration, on torch's `meta` device, with the shared experts and the zero experts it says.

    Raises ModelError.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from ..experts.zero import zero_class
    from ..sources.tied import share

    config: Any = copy.deepcopy(found.config)
    auto = next(
        (
            each
            for each in (AutoModelForCausalLM, AutoModelForImageTextToText)
            if type(config) in each._model_mapping  # noqa: SLF001
        ),
        None,
    )
    if auto is None:
        raise ModelError(
            f"'{found.name}' is of the architecture '{config.model_type}', for which this transformers has no "
            "causal language model. A MoE such as OLMoE, Qwen2-MoE or DeepSeek-V2 was expected."
        )
    if hasattr(config, "quantization_config"):
        config = type(config).from_dict(
            {k: v for k, v in config.to_dict().items() if k != "quantization_config"}
        )
    try:
        with torch.device("meta"):
            model = zero_class(auto, config).from_config(config)
            share(model)
            return model
    except ModelError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The configuration of '{found.name}' does not make a {config.model_type} model: "
            f"{type(error).__name__}: {lines[0]} Check the config.json against the checkpoint it belongs to."
        ) from error


def measured_shapes(model: PreTrainedModel, name: str) -> Shapes:
    """Sizes of a model that is there, with weights or without."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    experts: dict[int, str] = {}
    stack = None
    for path, module in modules.items():
        place = split_path(path) if looks_like_experts(path, module) else None
        if place is None or any(path.startswith(f"{known}.") for known in experts.values()):
            continue
        stack = stack or place[0]
        if place[0] == stack:
            experts[place[1]] = path
    if stack is None:
        raise ModelError(
            f"'{name}' ({type(model).__name__}) has no routed experts, so there is no census to cost. Give a MoE "
            "such as OLMoE, Qwen2-MoE or DeepSeek-V2."
        )
    config: Any = model.config.get_text_config()
    layers = tuple(
        _layer(name, model, config, i, layer, f"{stack}.{i}", experts.get(i), modules)
        for i, layer in enumerate(modules[stack].children())
    )
    head: Any = model.get_output_embeddings()
    vocab, hidden = head.weight.shape
    unique = {id(p): p.numel() for p in model.parameters()}
    inside = {id(p) for p in modules[stack].parameters()}
    return Shapes(
        architecture=type(model).__name__,
        layers=layers,
        hidden=int(hidden),
        vocab=int(vocab),
        parameters=sum(unique.values()),
        outside=sum(count for key, count in unique.items() if key not in inside),
        max_length=int(getattr(config, "max_position_embeddings", None) or 2048),
        by_rows=all(layer.per_key for layer in layers),
        anatomy=Anatomy(
            type(model).__name__,
            stack,
            tuple(modules[stack].children()),
            tuple(layer.moe for layer in layers if layer.moe is not None),
        ),
    )


def _layer(
    name: str,
    model: PreTrainedModel,
    config: Any,
    index: int,
    layer: nn.Module,
    path: str,
    experts_path: str | None,
    modules: dict[str, nn.Module],
) -> LayerShape:
    inside = experts_path.removeprefix(f"{path}.") if experts_path else None
    dense = [
        p.shape
        for at, p in layer.named_parameters()
        if p.ndim == 2 and not (inside and at.startswith(f"{inside}."))
    ]
    moe, routed, stacked = None, 0, []
    if experts_path is not None:
        holder = modules[experts_path]
        stacked = [tuple(p.shape) for p in holder.parameters() if p.ndim == 3]
        if not stacked:
            raise ModelError(
                f"'{name}', layer {index}: {type(holder).__name__} holds no weights of shape (experts, ..., ...), and "
                f"only fused experts can be audited{newer()}."
            )
        count = int(getattr(holder, "num_experts", None) or max(shape[0] for shape in stacked))
        routed = sum(one * two for _, one, two in stacked)
        block = experts_path.rpartition(".")[0]
        moe = MoELayer(
            index, path, experts_path, holder, None, None, count, _top_k(name, config, layer, index),
            weights_sum_to_one=False, block_path=block, block=modules[block],
            architecture=type(model).__name__,
        )  # fmt: skip
    per_key, window = _attention(config, layer)
    each = moe.top_k if moe else 0
    return LayerShape(
        index=index,
        moe=moe,
        dense=sum(one * two for one, two in dense),
        routed=routed,
        per_key=per_key,
        window=window,
        parameters=sum(p.numel() for p in layer.parameters()),
        matrices=(*((two, one, 1) for one, two in dense), *((b, a, each) for _, a, b in stacked)),
        cached=_cache(layer) if per_key else None,
    )


def _cache(layer: nn.Module) -> int | None:
    """Numbers kept of each token by the attention modules of a layer."""
    kept = 0
    for module in layer.modules():
        rank, rotated = (
            getattr(module, "kv_lora_rank", None),
            getattr(module, "qk_rope_head_dim", None),
        )
        if isinstance(rank, int) and isinstance(rotated, int):
            kept += rank + rotated
            continue
        keys, values = getattr(module, "k_proj", None), getattr(module, "v_proj", None)
        if isinstance(keys, nn.Linear) and isinstance(values, nn.Linear):
            kept += keys.out_features + values.out_features
    return kept or None


def _top_k(name: str, config: Any, layer: nn.Module, index: int) -> int:
    said = [getattr(module, "top_k", None) for module in layer.modules()]
    said += [getattr(config, field, None) for field in _TOP_K]
    for value in said:
        if isinstance(value, int) and value > 0:
            return value
    raise ModelError(
        f"'{name}', layer {index}: neither the router nor the configuration ({', '.join(_TOP_K)}) says to how many "
        "experts a token goes, so rows cannot be counted. Load the model, which shows it: `moeaudit inspect`."
    )


def _attention(config: Any, layer: nn.Module) -> tuple[int, int | None]:
    """(multiplications per key, keys at most); (0, None) where attention is none, or not over all keys.

    Softmax attention is known by its class (...Attention, ...MLA) and the width of its heads; with an
    indexer that chooses keys, or in linear form, it is another thing.
    """
    found: list[tuple[int, int | None]] = []
    for module in layer.modules():
        kind = type(module).__name__
        if "Indexer" in kind:
            return 0, None
        query = getattr(module, "qk_head_dim", None) or getattr(module, "head_dim", None)
        if not isinstance(query, int) or not ("Attention" in kind or "MLA" in kind):
            continue
        if "Linear" in kind or "Lightning" in kind:
            return 0, None
        heads = int(getattr(module, "num_heads", None) or config.num_attention_heads)
        value = int(getattr(module, "v_head_dim", None) or query)
        window = getattr(module, "sliding_window", None)
        found.append((heads * (query + value), window if isinstance(window, int) else None))
    if not found:
        return 0, None
    return sum(each for each, _ in found), found[0][1]
