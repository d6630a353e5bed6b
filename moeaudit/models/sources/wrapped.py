"""Model objects of other libraries: the transformers model inside them, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

from ..placement import weights_elsewhere

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_INSIDE = ("original_model", "_module", "_model")  # TransformerBridge, nnsight, older nnsight


def unwrap(
    source: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, dict[str, Any]]:
    """The transformers model in `source`, the tokenizer it carries, and facts about the wrapper.

    Raises ModelError where there is none, or none with weights.
    """
    from transformers import PreTrainedModel

    if isinstance(source, PreTrainedModel):
        _require_weights(source, source)
        return source, None, {}
    for place in _INSIDE:
        model = getattr(source, place, None)
        if isinstance(model, PreTrainedModel):
            _require_weights(source, model)
            facts: dict[str, Any] = {"wrapped_in": type(source).__name__}
            if getattr(source, "_weights_processed", False):
                # Folded norms leave every prediction as it was, but not what a norm of the router's
                # weights or of its input means.
                facts["weights_processed"] = True
            return model, getattr(source, "tokenizer", None), facts
    raise ModelError(
        f"load() was given a {type(source).__name__}{_what_instead(source)} A bundled name, a folder, a hub "
        "id, a transformers PreTrainedModel, a TransformerLens TransformerBridge or an nnsight "
        "LanguageModel was expected."
    )


def _what_instead(source: Any) -> str:
    name = type(source).__name__
    if hasattr(source, "merge_and_unload"):
        return (
            ", which holds LoRA adapters beside the weights. Merge them first and give what comes out: "
            "load(model.merge_and_unload())."
        )
    if name.startswith("Hooked"):
        return (
            ", TransformerLens's older class, whose weights are rearranged and which has no transformers "
            "model inside. Build a TransformerBridge (TransformerBridge.boot_transformers) instead."
        )
    inside = getattr(source, "_module", None)
    if inside is not None and hasattr(source, "trace"):
        return (
            f" around a {type(inside).__name__}, which is not a transformers model. Models that nnsight runs "
            "elsewhere (vLLM, remote) or that are not from transformers cannot be audited."
        )
    return "."


def _require_weights(source: Any, model: PreTrainedModel) -> None:
    _, empty = weights_elsewhere(model)
    if empty:
        instead = (
            "Build it with dispatch=True (nnsight models that run remotely cannot be audited)"
            if hasattr(source, "trace")
            else "Load it outside of `torch.device('meta')` or `init_empty_weights`, with from_pretrained"
        )
        raise ModelError(
            f"The {type(source).__name__} holds no weights ('{empty[0]}' and {len(empty) - 1} more are on the meta "
            "device, and no hook brings them when they are needed, as those of accelerate do for "
            f"offloaded layers). An audit needs the weights where it is called. {instead}, or give the "
            "checkpoint's name to load()."
        )
