"""Whether a model object reads text from left to right and answers with the next token's logits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from moeaudit.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEADS = re.compile(
    r"For(Sequence|Token|Image|Audio)\w*Classification|ForQuestionAnswering|ForMultipleChoice|Reward"
)
_ANOTHER = re.compile(r"For(Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice")


def require_reader(hf: PreTrainedModel, name: str) -> None:
    """Raise ModelError for a model that is known not to be a causal language model, by its head."""
    cls = type(hf).__name__
    if getattr(hf.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} ({cls}) is an encoder-decoder: its experts read two texts, and what a removal at a "
            "token of one does to the other is not defined here. A decoder-only language model is expected."
        )
    if _HEADS.search(cls):
        causal = _ANOTHER.sub("ForCausalLM", cls)
        raise ModelError(
            f"{name} ({cls}) has a classification head: it answers with labels, and every outcome here is "
            f"read from the next token's logits. Load the same checkpoint as {causal}."
            if causal != cls
            else f"{name} ({cls}) has another head than a language model's. A ForCausalLM class is expected."
        )
    if not hasattr(hf, "lm_head") and hf.get_output_embeddings() is None and cls.endswith("Model"):
        raise ModelError(
            f"{name} ({cls}) is the body of a language model without its head, so there are no logits. "
            f"Load the same checkpoint as {cls.removesuffix('Model')}ForCausalLM."
        )


def require_logits(hf: PreTrainedModel, logits: torch.Tensor, tokens: int, name: str) -> None:
    """Raise ModelError unless there is a row of logits over the vocabulary for each of `tokens` tokens."""
    rows = int(hf.get_input_embeddings().weight.shape[0])  # type: ignore[arg-type]
    shape = tuple(logits.shape)
    # Some heads leave out the rows of images and sounds, none half of the vocabulary.
    if len(shape) != 3 or shape[:2] != (1, tokens) or shape[2] < rows / 2:
        raise ModelError(
            f"{name} ({type(hf).__name__}) answers {tokens} tokens with logits of shape {shape}; one row over "
            f"the vocabulary of {rows:,} for each token was expected, (1, {tokens}, vocabulary). A causal "
            "language model is needed; classification heads and models that score the last token only are none."
        )


def lora_hint(hf: PreTrainedModel) -> str:
    """What to do about adapters, which stand between a router and its experts; empty without any."""
    if not any("lora_" in path for path, _ in hf.named_modules()):
        return ""
    return (
        " The model carries LoRA adapters: merge them into the weights first (merge_and_unload() of its "
        "PeftModel), then give the merged model to load()."
    )


def stale_hint(hf: PreTrainedModel) -> str:
    """What is the matter with the numbers of experts that a model says, if anything; else empty."""
    config = hf.config.get_text_config()
    active = getattr(config, "num_experts_per_tok", None)
    for path, module in hf.named_modules():
        said = getattr(module, "num_experts", None)
        if path and isinstance(said, int) and isinstance(active, int) and active > said:
            return f" num_experts_per_tok = {active} is more than the {said} experts that '{path}' has."
        held = max(
            (p.shape[0] for p in module._parameters.values() if p is not None and p.dim() == 3),
            default=said,
        )  # noqa: SLF001
        if isinstance(said, int) and held != said:
            return (
                f" '{path}' says num_experts = {said} and holds the weights of {held}: set the number "
                "where experts were taken out."
            )
    return ""
