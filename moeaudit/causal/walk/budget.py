"""How much of a walk stands in memory at once, by device; every block is cut to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from moeaudit.models import Model, MoELayer

from ..attention.rows import SCORES
from ..outcomes.compare import AT_ONCE


@dataclass(frozen=True)
class Budget:
    """Largest blocks of a walk. The defaults suit a CPU, where blocks that stay in the cache are fastest.

    Each is a bound on one kind of block, whatever the operator and the horizon: where not even one
    position fits, its rows are cut, and where not one row fits, its later tokens.
    """

    residuals: int = 1 << 29  # bytes of rows' residuals held at once
    layer_rows: int = 2048  # rows that go through a layer at once
    expert_rows: int = 8192  # (position, expert) pairs evaluated at once
    gathered: int = 1 << 28  # bytes of expert weights that batched_mm may copy at once
    scores: int = SCORES  # attention scores held at once
    logits: int = 1 << 23  # logits of rows held at once
    compared: int = AT_ONCE  # logits compared at once
    copied_tokens: int = 1 << 14  # tokens of one batch of copies, one edit a copy
    whole_tokens: int = 1 << 12  # tokens of one batch of copies, edited at every position
    copied_logits: int = 1 << 25  # logits of one batch of copies

    @classmethod
    def of(cls, device: torch.device) -> Budget:
        """The budget for a device. A GPU gets a quarter of its free memory, in blocks that keep it busy."""
        if device.type != "cuda":
            return cls()
        free, _ = torch.cuda.mem_get_info(device)
        share = max(1 << 26, free // 16)  # bytes of each of the four largest kinds of block
        return cls(
            residuals=share,
            layer_rows=1 << 15,
            expert_rows=1 << 15,
            gathered=share,
            scores=share // 8,  # float32 scores, and their softmax
            logits=share // 12,  # float32 logits, their difference and its exponential
            compared=share // 12,
            copied_tokens=1 << 15,
            whole_tokens=1 << 15,
            copied_logits=share // 12,
        )

    def rows_through(self, model: Model, moe: MoELayer | None) -> int:
        """Rows that go through a decoder layer together."""
        return self.layer_rows if moe is None else self._gathering(model, moe, self.layer_rows)

    def pairs(self, model: Model, moe: MoELayer) -> int:
        """(position, expert) pairs whose outputs are computed together, one slot each."""
        return self._gathering(model, moe, self.expert_rows, slots=1)

    def _gathering(self, model: Model, moe: MoELayer, most: int, slots: int | None = None) -> int:
        if model.experts_implementation != "batched_mm":
            return most
        # batched_mm copies the weights of every (row, slot), so few rows go at once.
        size = sum(p.numel() * p.element_size() for p in moe.experts.parameters())
        each = max(1, size // moe.num_experts) * (moe.top_k if slots is None else slots)
        return max(1, min(most, self.gathered // each))

    def copies(self, tokens: int, vocab: int) -> int:
        """Copies of a document in one batch, each with an edit at one position."""
        return max(1, min(self.copied_tokens // tokens, self.copied_logits // (tokens * vocab)))

    def whole_copies(self, tokens: int, vocab: int) -> int:
        """Copies of a document in one batch, each edited at every position."""
        return max(1, min(self.whole_tokens // tokens, self.copied_logits // (tokens * vocab)))
