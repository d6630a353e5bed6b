"""A Llama-family model as a Qwen2-MoE of the same function: every expert a copy of the dense MLP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moeaudit.errors import InputError, ModelError, one_of

from .router import kmeans_rows, mlp_inputs, random_rows, token_rows

if TYPE_CHECKING:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

ROUTERS = ("kmeans", "random")
SHARED = ("silent", "half")
_SAME = [
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *(
        "num_key_value_heads",
        "hidden_act",
        "max_position_embeddings",
        "initializer_range",
        "rms_norm_eps",
    ),
    *("tie_word_embeddings", "rope_parameters", "pad_token_id", "bos_token_id", "eos_token_id"),
]
_BIASES = ("q_proj.bias", "k_proj.bias", "v_proj.bias")
_EXACT = 1e-4  # of the largest logit: float32 rounding of a sum over slots, over all layers


def upcycle(
    dense: Any,
    experts: int,
    top_k: int,
    layers: Sequence[int] | str = "all",
    router: str = "kmeans",
    *,
    text: Any = None,
    tokenizer: Any = None,
    shared: str = "silent",
    reinitialise: float = 0.0,
    seed: int = 0,
) -> Qwen2MoeForCausalLM:
    """`dense` with the MLPs of `layers` turned into `experts` routed copies, `top_k` active, as a Qwen2-MoE.

    A Llama-family model is a special case of Qwen2-MoE: gates are renormalised (`norm_topk_prob`), so `top_k`
    identical experts add up to the one MLP, and the shared expert says nothing (`shared="silent"`: its last
    matrix is zero), or is the MLP too, its gate 1/2 everywhere and the routed experts halved (`"half"`; exact, since
    halving is). The result is checked against `dense` on a short text before it is returned, in float32.

    `dense`: a transformers model (Llama, Mistral without window, Qwen2), or its folder. `router`: `"kmeans"` makes a
    layer's rows from the inputs of its MLP on `text` (`kmeans_rows`; `text` as for `moeaudit.capture`, by default
    the training part of the bundled corpus, for which `tokenizer` is needed), `"random"` draws them.
    `reinitialise`: this share of each expert's inner units is drawn anew, other units in each expert, as
    Qwen1.5-MoE was born ("Qwen2 Technical Report", arXiv 2407.10671, 2.2.2: half of the parameters); the function is
    then no longer that of `dense`.

    Raises InputError for numbers, layers or a router that do not fit, ModelError for a model that Qwen2-MoE does not
    contain (normalised queries, biases of the output or the MLP, a window, scaled residuals).
    """
    dense = _read(dense)
    chosen = _layers(layers, dense.config.num_hidden_layers)
    _require_numbers(experts, top_k, reinitialise)
    one_of(router, ROUTERS, "router")
    one_of(shared, SHARED, "shared expert")
    config = _config(dense, experts, top_k, chosen, shared)
    if router == "kmeans":
        states = mlp_inputs(dense, chosen, token_rows(dense, text, tokenizer))
        rows = {i: kmeans_rows(states[i], experts, seed=seed + i) for i in chosen}
    else:
        width = dense.config.hidden_size
        rows = {i: random_rows(experts, width, seed=seed + i) for i in chosen}
    model = _filled(dense, config, rows, shared)
    _require_same(dense, model)
    if reinitialise:
        from .reinitialise import reinitialise_units

        reinitialise_units(model, reinitialise, seed)
    return model


def _read(dense: Any) -> Any:
    if isinstance(dense, (str, Path)):
        from transformers import AutoModelForCausalLM

        path = Path(dense).expanduser()
        if not (path / "config.json").is_file():
            raise InputError(
                f"'{dense}' is no folder of a dense model: config.json beside *.safetensors was expected. Give the "
                "folder that `save_pretrained` wrote, or a transformers model."
            )
        dense = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, dtype="float32")
    if not hasattr(getattr(dense, "config", None), "num_hidden_layers"):
        raise ModelError(
            f"{type(dense).__name__} cannot be upcycled: a transformers causal language model of the Llama family was "
            "expected, or the folder of one."
        )
    return dense


def _layers(layers: Any, count: int) -> list[int]:
    chosen = list(range(count)) if isinstance(layers, str) and layers == "all" else layers
    if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not len(chosen):
        raise InputError(f"layers = {layers!r}: expected 'all' or a list of layer numbers.")
    wrong = [i for i in chosen if not isinstance(i, int) or not 0 <= i < count]
    if wrong:
        raise InputError(f"There is no layer {wrong[0]}: this model has layers 0 to {count - 1}.")
    if len(set(chosen)) < len(chosen):
        raise InputError(f"layers = {list(chosen)} names a layer twice. Name each layer once.")
    return sorted(chosen)


def _require_numbers(experts: int, top_k: int, reinitialise: float) -> None:
    if experts < 2:
        raise InputError(f"experts = {experts}: a mixture has at least two.")
    if not 1 <= top_k <= experts:
        raise InputError(f"top_k = {top_k}: expected 1 to {experts}, the number of experts.")
    if not 0 <= reinitialise <= 1:
        raise InputError(f"reinitialise = {reinitialise}: expected a share from 0 to 1.")


def _config(dense: Any, experts: int, top_k: int, chosen: list[int], shared: str) -> Qwen2MoeConfig:
    from transformers import Qwen2MoeConfig

    old = dense.config
    window = "sliding_attention" in (getattr(old, "layer_types", None) or ()) or (
        old.model_type == "mistral" and getattr(old, "sliding_window", None) is not None
    )
    if window:
        raise ModelError(
            f"{type(dense).__name__} attends within a window, which is not carried over. Give a model of full "
            "attention."
        )
    missing = [name for name in ("intermediate_size", "rms_norm_eps") if not hasattr(old, name)]
    if missing:
        raise ModelError(
            f"{type(dense).__name__} has no {missing[0]} in its configuration: it is not of the Llama family "
            "(RMSNorm, rotary positions, a gated MLP)."
        )
    same = {name: getattr(old, name) for name in _SAME if getattr(old, name, None) is not None}
    width = getattr(old, "head_dim", None)
    if width is not None and width * old.num_attention_heads != old.hidden_size:
        same["head_dim"] = width
    return Qwen2MoeConfig(
        **same,
        mlp_only_layers=[i for i in range(old.num_hidden_layers) if i not in chosen],
        decoder_sparse_step=1,
        num_experts=experts,
        num_experts_per_tok=top_k,
        norm_topk_prob=True,
        moe_intermediate_size=old.intermediate_size,
        # A silent shared expert needs a width; the least keeps it cheap.
        shared_expert_intermediate_size=old.intermediate_size if shared == "half" else 1,
        qkv_bias=any(name.endswith(_BIASES) for name in dense.state_dict()),
        use_sliding_window=False,
    )


def _filled(
    dense: Any, config: Qwen2MoeConfig, rows: dict[int, torch.Tensor], shared: str
) -> Qwen2MoeForCausalLM:
    """The new model with the old one's weights; raises ModelError for a weight that has no place."""
    from transformers import Qwen2MoeForCausalLM

    model = Qwen2MoeForCausalLM(config).float().eval()
    old = {name: tensor.detach().float() for name, tensor in dense.state_dict().items()}
    new = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for i, gate in rows.items():
        place = f"model.layers.{i}.mlp"
        try:
            up, down = (
                torch.cat(
                    [old.pop(f"{place}.gate_proj.weight"), old.pop(f"{place}.up_proj.weight")]
                ),
                old.pop(f"{place}.down_proj.weight"),
            )
        except KeyError as error:
            raise _foreign(dense, f"layer {i} has no {error}") from None
        part = 0.5 if shared == "half" else 1.0
        new[f"{place}.experts.gate_up_proj"] = up.expand(config.num_experts, -1, -1).clone()
        new[f"{place}.experts.down_proj"] = (part * down).expand(config.num_experts, -1, -1).clone()
        new[f"{place}.gate.weight"] = gate.clone()
        inner = config.shared_expert_intermediate_size
        half = len(up) // 2
        new[f"{place}.shared_expert.gate_proj.weight"] = up[:inner].clone()
        new[f"{place}.shared_expert.up_proj.weight"] = up[half : half + inner].clone()
        if shared == "half":
            new[f"{place}.shared_expert.down_proj.weight"] = down.clone()
    foreign = [name for name in old if name not in new or old[name].shape != new[name].shape]
    if foreign:
        raise _foreign(dense, f"there is no place for {foreign[0]}")
    model.load_state_dict(new | old)
    model.tie_weights()
    return model


def _foreign(dense: Any, why: str) -> ModelError:
    return ModelError(
        f"{type(dense).__name__} is not contained in Qwen2-MoE: {why}. A model of the Llama family is expected: "
        "RMSNorm before attention and MLP, rotary positions, a gated MLP without biases, biases of query, key "
        "and value at most."
    )


def _require_same(dense: Any, model: Qwen2MoeForCausalLM) -> None:
    """Raise ModelError unless both give the same logits on a text of random tokens."""
    length = min(32, dense.config.max_position_embeddings)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(dense.config.vocab_size, (2, length), generator=draw)
    training = dense.training
    dense.eval()
    try:
        with torch.no_grad():
            before = dense(input_ids=ids.to(dense.device)).logits.float().cpu()
            after = model(input_ids=ids).logits
    finally:
        dense.train(training)
    off = ((after - before).abs().max() / before.abs().max()).item()
    exact = _EXACT if dense.dtype == torch.float32 else 0.05
    if not off <= exact:
        raise ModelError(
            f"{type(dense).__name__}: its weights fit Qwen2-MoE, but the function is another: logits differ by "
            f"{off:.2g} of the largest one ({exact:g} is rounding). The model scales or orders something "
            "otherwise, and is not upcycled."
        )
