"""`verify`: recompute a random sample of effects by one full forward each, and compare."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import InputError
from ..models import Model
from ..text import Chunk, TokenizedCorpus
from ..text.reading import tokens_for
from .effects import EffectsFolder
from .engines import engine_class

# What rounding explains between a replayed and a full forward, in nats, if the model is float32.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Verification:
    """How far sampled effects are from an independent recomputation, in nats.

    `rows` holds the sampled effects beside the recomputed ones (columns delta_nll, kl, flip and
    the same with the prefix `engine_`). If the engine cannot ablate this model, `n` is 0, the
    differences are NaN and `skipped` says why: nothing was verified.
    """

    engine: str
    n: int
    max_abs_delta_nll: float
    max_abs_kl: float
    flips_differ: int
    rows: pd.DataFrame = field(repr=False)
    skipped: str | None = None
    dtype: str = "float32"
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        """Whether at least one row was recomputed and none differs by more than rounding.

        False as well where all sampled effects are below the tolerance: such a sample shows nothing.
        """
        # Comparisons with NaN are false, so an effect that is NaN never agrees.
        return (
            self.n > 0
            and not self.blind
            and all(
                difference <= self.tolerance
                for difference in (self.max_abs_delta_nll, self.max_abs_kl)
            )
        )

    @property
    def blind(self) -> bool:
        """Whether every sampled effect is smaller than what rounding explains."""
        both = self.rows[["delta_nll", "engine_delta_nll"]].abs() if self.n else self.rows
        return self.n > 0 and not bool((both.to_numpy(float) > self.tolerance).any())

    def __repr__(self) -> str:
        if self.skipped is not None:
            return f"Not verified with {self.engine}: {self.skipped}"
        if self.blind:
            return (
                f"Not verified with {self.engine}: all {self.n} sampled effects are below {self.tolerance:.0e} nats, "
                f"what {self.dtype} rounding explains, so agreement would show nothing. Load the model "
                "in float32."
            )
        verdict = (
            f"within {self.tolerance:.0e}, what {self.dtype} rounding explains"
            if self.agrees
            else f"MORE than the {self.tolerance:.0e} that {self.dtype} rounding explains"
        )
        return (
            f"{self.n} effects recomputed by one full forward each with {self.engine}: largest "
            f"difference {self.max_abs_delta_nll:.1e} nats in delta NLL and {self.max_abs_kl:.1e} "
            f"in KL ({verdict}); {self.flips_differ} of {self.n} flips differ."
        )

    def _repr_html_(self) -> str:
        table = self.rows.to_html(index=False, escape=True, float_format=lambda x: f"{x:.6g}")
        return f"<p>{html.escape(repr(self))}</p>" + (table if self.n else "")


def verify(
    effects: pd.DataFrame | EffectsFolder,
    model: Model,
    n: int = 8,
    engine: str = "hooks",
    seed: int = 0,
    docs: Any = None,
    max_length: int | None = None,
) -> Verification:
    """Recompute `n` random effects by one full forward each, in an engine of its own.

    Args:
        effects: what `ablate` returned, or a part of it; an effects folder is sampled shard by
            shard. Only the removal of an expert (`Zero`) can be recomputed.
        model: the model the effects were computed on.
        n: how many rows to recompute; all of them if there are fewer.
        engine: `"hooks"`, `"nnsight"` or `"transformer_lens"`. None shares code with the replay.
        seed: decides which rows.
        docs: the documents, cut as they were then. Needed only if the table does not carry them,
            as after reading it from disk.

    Returns:
        A `Verification`; with `skipped` set if the engine cannot ablate this model.

    Raises:
        InputError: no rows, no documents, an unknown engine, another intervention than `Zero`,
            or rows that do not belong to these documents and this model.
    """
    kind = engine_class(engine)
    if n < 1 or len_of(effects) == 0:
        raise InputError(
            f"There is nothing to verify: {n} of {len_of(effects)} effects were asked for. Pass a "
            "table with rows and an n of at least 1."
        )
    intervention = getattr(effects, "intervention", "zero") or "zero"
    if intervention != "zero":
        raise InputError(
            f"These are effects of the intervention {intervention!r}, and the engines recompute "
            "the removal of one expert only. Verify effects of Zero()."
        )
    texts = _texts(effects, model, docs, max_length)
    rows = _sample(effects, n, seed)
    reason = kind.supports(model)
    if reason is not None:
        nan = float("nan")
        return Verification(engine, 0, nan, nan, 0, rows.iloc[:0], reason)
    made = kind(model)
    found = []
    # Neighbouring cells of one document share its clean forward.
    rows = rows.sort_values(["document", "position", "layer", "expert"], ignore_index=True)
    for document, position, layer, expert in zip(
        *(rows[name].tolist() for name in ("document", "position", "layer", "expert"))
    ):
        chunk = _chunk_of(texts, document, position)
        found.append(made.effect(chunk.ids, position - chunk.start, layer, expert))
    rows = rows.assign(
        engine_delta_nll=[outcome.delta_nll for outcome in found],
        engine_kl=[outcome.kl for outcome in found],
        engine_flip=[outcome.flip for outcome in found],
    )
    return Verification(
        engine,
        len(rows),
        _largest_difference(rows, "delta_nll"),
        _largest_difference(rows, "kl"),
        int(np.sum(rows["flip"].to_numpy(bool) != rows["engine_flip"].to_numpy(bool))),
        rows,
        None,
        str(model.dtype).removeprefix("torch."),
        tolerance_of(model),
    )


def tolerance_of(model: Model) -> float:
    """The largest difference that rounding in the model's own precision explains, in nats.

    1e-5 for float32. Half precision rounds every activation, so the two forwards agree only to a
    few units of its last place; 16 of them is about four times what tiny models show.
    """
    eps = torch.finfo(model.dtype).eps
    return TOLERANCE if eps <= torch.finfo(torch.float32).eps else 16 * eps


def len_of(effects: pd.DataFrame | EffectsFolder) -> int:
    """Number of rows of a table, in memory or on disk."""
    return effects.rows if isinstance(effects, EffectsFolder) else len(effects)


def _largest_difference(rows: pd.DataFrame, column: str) -> float:
    census, engine = (rows[name].to_numpy(np.float64) for name in (column, f"engine_{column}"))
    # numpy's max keeps a NaN, which pandas would drop: a NaN effect is a difference, not a match.
    return float(np.max(np.abs(census - engine)))


def _texts(
    effects: pd.DataFrame | EffectsFolder, model: Model, docs: Any, max_length: int | None
) -> TokenizedCorpus:
    carried = getattr(effects, "texts", None)
    if docs is not None:
        cut = getattr(effects, "max_length", None) or getattr(carried, "max_length", None)
        return tokens_for(model, docs, max_length or cut)
    if not isinstance(carried, TokenizedCorpus):
        raise InputError(
            "These effects do not carry the documents they were computed on, so nothing can be "
            "recomputed. Pass the same documents: verify(effects, model, docs=...)."
        )
    return carried


def _sample(effects: pd.DataFrame | EffectsFolder, n: int, seed: int) -> pd.DataFrame:
    """`n` rows without replacement, as a plain frame; a folder is read one shard at a time."""
    total = len_of(effects)
    places = np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)
    if not isinstance(effects, EffectsFolder):
        return pd.DataFrame(effects.iloc[np.sort(places)]).reset_index(drop=True)
    parts, start = [], 0
    for shard in effects.shards():
        inside = np.sort(places[(places >= start) & (places < start + len(shard))])
        parts.append(shard.iloc[inside - start])
        start += len(shard)
    return pd.concat(parts, ignore_index=True)


def _chunk_of(texts: TokenizedCorpus, document: int, position: int) -> Chunk:
    """The chunk in which this position has a next token."""
    there = [chunk for chunk in texts.chunks if chunk.document == document]
    for chunk in there:
        if chunk.start <= position < chunk.start + len(chunk.ids) - 1:
            return chunk
    known = (
        f"has predictions at {', '.join(_span(chunk) for chunk in there)} only"
        if there
        else f"is not among the {texts.n_documents} documents"
    )
    raise InputError(
        f"The effects have a row at position {position} of document {document}, which {known}. "
        "Expected the documents the effects were computed on, cut at the same max_length."
    )


def _span(chunk: Chunk) -> str:
    return f"positions {chunk.start} to {chunk.start + len(chunk.ids) - 2}"
