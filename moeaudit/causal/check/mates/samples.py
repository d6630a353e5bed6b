"""Samples of one length that differ, and the experts implementations to run them with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.text.for_model import first_tokens

EXPERTS = ("eager", "batched_mm", "grouped_mm")


def token_ids(model: Model, docs: Any, samples: int, tokens: int, seed: int) -> torch.Tensor:
    if tokens > model.max_length:
        raise InputError(
            f"tokens = {tokens}: {model.name} reads at most {model.max_length} in one piece."
        )
    if docs is None:
        drawn = np.random.default_rng(seed).integers(0, model.vocab_size, (samples, tokens))
    else:
        read = first_tokens(model, docs, tokens, least=tokens)[:samples]
        if len(read) < 2:
            raise InputError(
                f"{len(read)} documents have {tokens} tokens; at least 2 of this length were expected. Give more "
                "text, or a smaller tokens=."
            )
        drawn = np.stack(read)
    ids = torch.from_numpy(drawn.astype(np.int64)).to(model.device)
    require_different(ids)
    return ids


def block_states(block: nn.Module, samples: int, tokens: int, seed: int) -> torch.Tensor:
    config: Any = next(
        (c for m in block.modules() if (c := getattr(m, "config", None)) is not None), None
    )
    width = getattr(config, "hidden_size", None)
    first = next(iter(block.parameters()), None)
    if width is None:
        linear = next((m for m in block.modules() if isinstance(m, nn.Linear)), None)
        width = None if linear is None else linear.in_features
    if width is None or first is None:
        raise InputError(
            f"{type(block).__name__} does not say how wide its hidden states are. Pass hidden= of the shape (samples, "
            "tokens, width)."
        )
    drawn = np.random.default_rng(seed).standard_normal((samples, tokens, width))
    return torch.from_numpy(drawn).to(first)


def require_different(batch: torch.Tensor) -> None:
    if bool((batch == batch[:1]).all()):
        raise InputError(
            "All samples are the same, so none has a mate that differs from itself. Give different ones."
        )


def implementations_named(experts: str | Iterable[str] | None) -> list[str]:
    named: list[str] = (
        list(EXPERTS)
        if experts is None
        else [experts]
        if isinstance(experts, str)
        else list(experts)
    )
    wrong = [each for each in named if each not in EXPERTS]
    if wrong or not named:
        raise InputError(
            f"experts = {experts!r}: names among {', '.join(EXPERTS)} were expected, transformers' experts "
            "implementations."
        )
    return named
