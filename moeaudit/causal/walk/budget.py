"""How much of a walk stands in memory at once, by device; every block is cut to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.placement.fits import read_size

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
        free = _free(device)
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

    @classmethod
    def within(cls, memory: int | str, model: Model) -> Budget:
        """The budget of a walk that may take `memory` besides the weights: bytes, or such as "12GiB".

        A quarter goes to the rows' residuals, an eighth each to a layer's rows on their way through it, a
        layer's births, attention scores, and logits with what is measured on them; the rest is reserve. What
        a row takes in a layer is counted from the layer's widths. Raises InputError for what is no size and for one in
        which not one row fits, naming the least.
        """
        total, row, least = bytes_of(memory), row_bytes(model), least_bytes(model)
        if total < least:
            raise InputError(
                f"memory = {memory!r} is too little for one row of {model.name}, which needs {least / 2**20:,.0f} MiB "
                "besides the weights. Give at least that much, or leave memory out for what suits the device."
            )
        share, base = total // 8, cls.of(model.device)
        return cls(
            residuals=2 * share,
            layer_rows=max(1, min(base.layer_rows, share // row)),
            expert_rows=max(1, min(base.expert_rows, share // row)),
            gathered=share,
            scores=max(1, min(base.scores, share // 8)),
            logits=max(1, min(base.logits, share // 16)),
            compared=max(1, min(base.compared, share // 16)),
            copied_tokens=max(1, min(base.copied_tokens, share // row)),
            whole_tokens=max(1, min(base.whole_tokens, share // row)),
            copied_logits=max(1, min(base.copied_logits, share // 16)),
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


def least_bytes(model: Model) -> int:
    """The least that a walk takes besides the weights: one row, its scores and its logits."""
    # Logits as the model gives them, in float32, and their exponential.
    return 8 * max(row_bytes(model), 16 * model.vocab_size)


def most_bytes(model: Model) -> int:
    """What a walk takes at most besides the weights in the blocks that suit the model's device."""
    budget = Budget.of(model.device)
    # A layer's rows on their way, and as many births; scores and their softmax; logits thrice.
    layer = 2 * budget.layer_rows * row_bytes(model)
    one_by_one = 8 * budget.scores + 16 * (budget.logits + budget.compared)
    return max(least_bytes(model), budget.residuals + layer + one_by_one)


def bytes_of(memory: int | str) -> int:
    """ "12GiB", "800MB" or a number of bytes as bytes. Raises InputError for anything else."""
    size = read_size(memory)
    if size is None:
        raise InputError(
            f"memory = {memory!r}: a number of bytes, or a size such as '12GiB' or '800MB', was expected."
        )
    return size


def row_bytes(model: Model) -> int:
    """Bytes that one row takes at most on its way through a decoder layer, in the model's precision.

    Each active slot holds its input, two inner vectors, their product, and its output before and after the
    weight; besides it the outputs of the layer's other matrices, twice, since attention of half precision
    computes in float32.
    """
    width = int(model.hf.config.get_text_config().hidden_size)
    size = max(2, model.hf.dtype.itemsize)
    experts = {id(p) for moe in model.anatomy.layers for p in moe.experts.parameters()}
    most = 0
    for i, layer in enumerate(model.anatomy.decoder_layers):
        plain = (p.shape[0] for p in layer.parameters() if p.ndim == 2 and id(p) not in experts)
        numbers = 2 * (sum(plain) + 8 * width)
        for moe in model.anatomy.layers:
            if moe.index == i:
                each = sum(p.numel() for p in moe.experts.parameters()) / moe.num_experts
                numbers += int(moe.top_k * (4 * width + 4 * each / (3 * width)))
        most = max(most, numbers)
    return most * size


def _free(device: torch.device) -> int:
    """Bytes of the card that this process may still take: what is free, less where it is held to a share."""
    free, total = torch.cuda.mem_get_info(device)
    held_to = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device)
    mine = int(held_to * total) - torch.cuda.memory_reserved(device)
    return max(0, min(free, mine))
