"""How many experts a prompt touches, against independent choices and against a text that says nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from moeaudit.errors import InputError
from moeaudit.stats.sizes.bootstrap import document_weights, percentile_limits

from ..grouping import Choices
from ..trace import Trace

LENGTHS = (8, 16, 32, 64, 128)


def working_set(
    trace: Trace,
    lengths: Sequence[int] = LENGTHS,
    *,
    beside: Trace | None = None,
    n_boot: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Distinct experts that the first T tokens of a document touch, by layer (arXiv 2605.27358).

    With one token after the other, a layer's weights in use are those of the experts touched so far. `independent`
    is what choices without memory would touch: each token drawing its experts anew with the layer's own
    frequencies \(f_e\) (share of tokens that choose e), \(\sum_e 1 - (1 - f_e)^T\). Text touches fewer where
    neighbouring tokens share experts. `even` is the same with \(f_e = k / E\), the most that any router touches
    on average.

    Args:
        trace: what `capture` returned.
        lengths: numbers of tokens T; documents that are shorter take no part in a length.
        beside: a trace of the same model on another text of the same lengths, such as random tokens; `ratio` is
            then the experts touched by `trace` over those touched by `beside`.
        n_boot, seed: of the intervals, percentile limits over resampled documents (of both traces).

    Returns:
        One row per layer and length: layer, length, documents, experts, touched (mean number of distinct experts),
        low, high (95 %), share (touched / experts), independent, even, over_independent (touched / independent)
        with its limits; with `beside` also touched_beside, ratio, ratio_low, ratio_high. Limits are null with
        fewer than two documents; lengths that no document reaches have no row.

    Raises:
        InputError: lengths that are no whole numbers above 0, no document that reaches the shortest, a `beside`
            of another model's layers or experts.
    """
    wanted = _lengths(lengths)
    if beside is not None and (beside.layers != trace.layers or _sizes(beside) != _sizes(trace)):
        raise InputError(
            f"The two traces have different MoE layers or experts ({trace.layers} of {trace.facts.model} against "
            f"{beside.layers} of {beside.facts.model}). Capture the same model on both texts."
        )
    rows = []
    for layer in trace.layers:
        size = trace.facts.num_experts[layer]
        choices = Choices.of(trace, layer)
        top_k = choices.expert.shape[1]
        used = np.bincount(choices.expert.reshape(-1), minlength=size) / len(choices.expert)
        mine = touched(choices, size, wanted)
        theirs = None if beside is None else touched(Choices.of(beside, layer), size, wanted)
        for length in wanted:
            here = mine[length]
            if not len(here):
                continue
            independent = float(np.sum(1 - (1 - np.minimum(used, 1)) ** length))
            low, high = _limits(here, n_boot, seed)
            row: dict[str, object] = {
                "layer": layer,
                "length": length,
                "documents": len(here),
                "experts": size,
                "touched": float(here.mean()),
                "low": low,
                "high": high,
                "share": float(here.mean() / size),
                "independent": independent,
                "even": size * (1 - (1 - top_k / size) ** length),
                "over_independent": float(here.mean() / independent),
                "over_independent_low": low / independent,
                "over_independent_high": high / independent,
            }
            if theirs is not None:
                row |= _beside(here, theirs[length], n_boot, seed)
            rows.append(row)
    if not rows:
        raise InputError(
            f"No document of the trace has {min(wanted)} tokens, so no working set can be measured. Give longer "
            "documents or smaller lengths."
        )
    return pd.DataFrame(rows)


def touched(
    choices: Choices, size: int, lengths: Sequence[int]
) -> dict[int, Float[np.ndarray, " documents"]]:
    """Distinct experts among the first T tokens of each document that has T, by T."""
    found: dict[int, list[int]] = {length: [] for length in lengths}
    starts = np.flatnonzero(np.r_[True, np.diff(choices.document) != 0])
    ends = np.r_[starts[1:], len(choices.document)]
    for start, end in zip(starts, ends):
        first = _first_use(choices.expert[start:end], size)
        for length in lengths:
            if end - start >= length:
                found[length].append(int((first < length).sum()))
    return {length: np.array(counts, dtype=np.float64) for length, counts in found.items()}


def _first_use(
    expert: Int64[np.ndarray, "tokens top_k"], size: int
) -> Int64[np.ndarray, " experts"]:
    """The first token that chooses each expert; a number beyond all tokens where none does."""
    first = np.full(size, np.iinfo(np.int64).max)
    tokens = np.repeat(np.arange(len(expert)), expert.shape[1])
    np.minimum.at(first, expert.reshape(-1), tokens)
    return first


def _limits(values: Float[np.ndarray, " documents"], n_boot: int, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    weight = document_weights(len(values), n_boot, seed)
    return percentile_limits(weight @ values / weight.sum(1))


def _beside(
    here: Float[np.ndarray, " documents"],
    there: Float[np.ndarray, " documents"],
    n_boot: int,
    seed: int,
) -> dict[str, float]:
    if not len(there):
        return dict.fromkeys(("touched_beside", "ratio", "ratio_low", "ratio_high"), float("nan"))
    low = high = float("nan")
    if len(here) > 1 and len(there) > 1:
        mine = document_weights(len(here), n_boot, seed)
        theirs = document_weights(len(there), n_boot, seed + 1)
        low, high = percentile_limits(
            (mine @ here / mine.sum(1)) / (theirs @ there / theirs.sum(1))
        )
    ratio = float(here.mean() / there.mean())
    return {
        "touched_beside": float(there.mean()),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
    }


def _sizes(trace: Trace) -> list[int]:
    return [trace.facts.num_experts[layer] for layer in trace.layers]


def _lengths(lengths: Sequence[int]) -> list[int]:
    named = sorted(set(lengths))
    if not named or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in named):
        raise InputError(
            f"lengths = {list(lengths)!r}: numbers of tokens above 0 were expected, such as [16, 64]."
        )
    return named
