"""Text that a model writes by itself, from the beginnings of documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from moeaudit.errors import InputError


def beginnings(docs: Iterable[Any], tokens: int) -> Int[np.ndarray, "documents tokens"]:
    """The first `tokens` tokens of every chunk of a tokenised corpus that begins a document and has as many.

    Raises InputError where none has.
    """
    chunks = getattr(docs, "chunks", docs)
    found = [c.ids[:tokens] for c in chunks if c.start == 0 and len(c.ids) >= tokens]
    if not found:
        raise InputError(
            f"No document has {tokens} tokens to begin a text with. Give longer documents, or a shorter prompt."
        )
    return np.stack(found).astype(np.int64)


@torch.no_grad()
def continued(
    hf: Any, prompts: Int[Tensor, "rows prompt"], length: int, draws: torch.Generator
) -> Int[Tensor, "rows length"]:
    """`prompts` continued to `length` tokens by sampling at temperature 1 from the whole vocabulary."""
    was, past, ids = hf.training, None, prompts
    hf.eval()
    try:
        given = ids
        while ids.shape[1] < length:
            out = hf(input_ids=given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            p = out.logits[:, -1].float().softmax(-1)
            given = torch.multinomial(p.cpu(), 1, generator=draws).to(ids)
            ids = torch.cat([ids, given], 1)
    finally:
        hf.train(was)
    return ids
