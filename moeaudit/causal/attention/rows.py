"""What a counterfactual row attends to: clean keys and values below its edit, its own from there.

A row that is read at the edited token alone has one key of its own. A row that carries the tokens
after it (a horizon) is a sequence of steps, which attend to each other causally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

from moeaudit.models.precision import full

SCORES = 1 << 22  # attention scores held at once
# Scores of whole positions that a CPU keeps in its cache, so that the softmax finds them there.
CACHED = 1 << 19


@dataclass
class CleanKeys:
    """What one attention module attended to in the clean pass over a document of `tokens`."""

    key: torch.Tensor  # (kv_heads, tokens, d_key)
    value: torch.Tensor  # (kv_heads, tokens, d_value)
    mask: torch.Tensor  # (1 or heads, tokens, tokens), additive
    # Whether each token sees all tokens up to its own and none after it: then most of the mask adds nothing.
    causal: bool = False


def attend_rows(
    clean: CleanKeys,
    at: Int[torch.Tensor, "positions steps"],
    edited: Sequence[int],
    rows: int,
    query: Float[torch.Tensor, "1 heads rows d_key"],
    key: Float[torch.Tensor, "1 kv_heads rows d_key"],
    value: Float[torch.Tensor, "1 kv_heads rows d_value"],
    kwargs: dict[str, Any],
    scores: int = SCORES,
) -> Float[torch.Tensor, "1 rows heads d_value"]:
    """Attention of rows in the order (position, row, step); step i of a row stands at `at[:, i]`.

    `edited` is `at[:, 0]` as plain numbers, so that no block has to ask the device for them.
    At most `scores` attention scores stand at once: some positions, or some rows of one position.
    """
    (count, steps), kv_heads, width = at.shape, key.shape[1], query.shape[-1]
    groups = query.shape[1] // kv_heads
    scaling = kwargs.get("scaling")
    scaling = width**-0.5 if scaling is None else scaling
    q = query[0].reshape(kv_heads, groups, count, rows, steps, width)
    k = key[0].reshape(kv_heads, 1, count, rows, steps, width)
    v = value[0].reshape(kv_heads, 1, count, rows, steps, -1)
    block = _lone if steps == 1 else _suffix
    each = kv_heads * groups * steps * (clean.key.shape[1] + steps)  # scores of one row
    fit = min(scores, CACHED) if q.device.type == "cpu" else scores
    step, some = max(1, fit // (each * rows)), max(1, min(rows, scores // each))
    # Fused kernels keep scores and sums of half precision in float32 as well.
    clean, given = _precise(clean), value.dtype
    q, k, v = full(q) * scaling, full(k), full(v)
    # Heads come last in what is returned, and stand first while rows attend.
    out = v.new_empty(count, rows, steps, kv_heads, groups, v.shape[-1])
    heads_first = out.permute(3, 4, 0, 1, 2, 5)
    for a in range(0, count, step):
        part = slice(a, a + step)
        for b in range(0, rows, some):
            here = (slice(None), slice(None), part, slice(b, b + some))
            mine = (clean, at[part], edited[part], q[here], k[here], v[here])
            heads_first[here] = block(*mine, kwargs)
    return out.view(1, count * rows * steps, kv_heads * groups, -1).to(given)


def _precise(clean: CleanKeys) -> CleanKeys:
    if clean.key.dtype in (torch.float32, torch.float64):
        return clean
    # A half-precision mask ends at its own lowest number, which is low enough.
    return CleanKeys(full(clean.key), full(clean.value), full(clean.mask), clean.causal)


def _lone(
    clean: CleanKeys,
    at: torch.Tensor,  # (p, 1)
    edited: Sequence[int],  # the positions
    q: torch.Tensor,  # (kv_heads, groups, p, rows, 1, d_key), scaled
    k: torch.Tensor,  # (kv_heads, 1, p, rows, 1, d_key)
    v: torch.Tensor,  # (kv_heads, 1, p, rows, 1, d_value)
    kwargs: dict[str, Any],
) -> torch.Tensor:
    q, k, v, positions = q.squeeze(4), k.squeeze(4), v.squeeze(4), at[:, 0]
    kv_heads, groups, p, rows, width = q.shape
    first, last = min(edited), max(edited) + 1
    flat = q.reshape(kv_heads, groups * p * rows, width)
    scores = torch.matmul(flat, clean.key[:, :last].transpose(1, 2))
    scores = scores.view(kv_heads, groups, p, rows, last)
    # The row's own key stands where the clean token's key stood.
    place = positions.view(1, 1, p, 1, 1).expand(kv_heads, groups, p, rows, 1)
    own = (q * k).sum(-1, keepdim=True)
    scores = _capped(scores.scatter_(-1, place, own), kwargs)
    # Keys before the first position of the block are seen by all of it where the mask is causal.
    start = first if clean.causal else 0
    mask = _mask(clean.mask[:, positions, start:last], kv_heads, groups)
    scores[..., start:].add_(mask[..., None, :])
    probability = _softmax(scores, v, kwargs)
    mine = probability.gather(-1, place)
    others = probability.scatter_(-1, place, 0.0)
    mixed = torch.matmul(others.reshape(kv_heads, -1, last), clean.value[:, :last])
    return mixed.view(kv_heads, groups, p, rows, -1).addcmul_(mine, v)[:, :, :, :, None]


def _suffix(
    clean: CleanKeys,
    at: torch.Tensor,  # (p, steps)
    edited: Sequence[int],  # the edited positions
    q: torch.Tensor,  # (kv_heads, groups, p, rows, steps, d_key), scaled
    k: torch.Tensor,  # (kv_heads, 1, p, rows, steps, d_key)
    v: torch.Tensor,  # (kv_heads, 1, p, rows, steps, d_value)
    kwargs: dict[str, Any],
) -> torch.Tensor:
    kv_heads, groups, p, rows, steps, width = q.shape
    first = at[:, 0]
    last = max(1, *edited)  # clean keys lie below the edited token
    flat = q.reshape(kv_heads, -1, width)
    before = torch.matmul(flat, clean.key[:, :last].transpose(1, 2))
    before = before.view(kv_heads, groups, p, rows, steps, last)
    own = torch.matmul(q, k.transpose(-1, -2))  # (..., steps, steps)
    scores = _capped(torch.cat([before, own], -1), kwargs)
    low = torch.finfo(scores.dtype).min
    # (1 or heads, p, steps, last): what each step sees of the clean tokens, none from the edit on
    seen = clean.mask[:, at, :last].masked_fill(
        torch.arange(last, device=at.device) >= first[:, None, None], low
    )
    among = clean.mask[:, at[:, :, None], at[:, None, :]]  # (1 or heads, p, steps, steps)
    # Steps past the end of the text repeat its last place; no step before them may see them.
    among = among.masked_fill(at.new_ones(steps, steps).triu(1).bool(), low)
    mask = torch.cat([seen, among], -1)
    scores = scores.add_(_mask(mask, kv_heads, groups)[:, :, :, None])
    probability = _softmax(scores, v, kwargs)
    flat = probability[..., :last].reshape(kv_heads, -1, last)
    mixed = torch.matmul(flat, clean.value[:, :last]).view(*q.shape[:-1], -1)
    return mixed.add_(torch.matmul(probability[..., last:], v))


def _capped(scores: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    softcap = kwargs.get("softcap")
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _mask(mask: torch.Tensor, kv_heads: int, groups: int) -> torch.Tensor:
    """`"heads ..."` as (kv_heads, groups, ...), or one for all heads as (1, 1, ...)."""
    split = (1, 1) if mask.shape[0] == 1 else (kv_heads, groups)
    return mask.reshape(*split, *mask.shape[1:])


def _softmax(scores: torch.Tensor, value: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    """Probabilities of the keys, in place of `scores`; a sink takes its share of them and gives nothing."""
    keys, sinks = scores.shape[-1], kwargs.get("s_aux")
    if sinks is not None:
        rest = scores.shape[2:-1]
        sink = sinks.reshape(*scores.shape[:2], *[1] * (len(rest) + 1))
        sink = sink.expand(*scores.shape[:2], *rest, 1)
        scores = torch.cat([scores, sink.to(scores.dtype)], -1)
    return torch.softmax(scores, -1, out=scores).to(value.dtype)[..., :keys]
