"""Effects as they are computed: some chunks, or some positions of one, at a time: memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError, ModelError
from moeaudit.models.precision import is_half, rounding

from .effects import walked_frame
from .facts import Facts, joined
from .walk.checks.departure import MOST, departure
from .walk.engine import walk, walk_many

if TYPE_CHECKING:
    from moeaudit.text import Chunk

    from .walk.plan import Walked, WalkPlan
    from .walk.several.sample import Sample


_CLEARED = 3  # texts


class Block(NamedTuple):
    """Effects at some positions of a chunk, which engine computed them, and its drift in nats."""

    frame: pd.DataFrame
    engine: str
    slower: bool  # than the wavefront, because rows cannot follow there
    drift: float
    beyond: float | None = None  # the drift that rounding explains, where this one is larger
    half: bool = False  # the model computes in half precision

    def said(self, facts: Facts) -> Facts:
        """The facts of these rows alone."""
        notes = [*facts.notes, *([self.engine] if self.slower else [])]
        if self.beyond is not None:
            notes.append(
                f"Rows that carry no edit end up to {self.beyond:.2g} nats or more from the clean forward, more than a "
                "recomputed effect may differ: effects of that size are rounding."
                + (" Load the model in float32." if self.half else "")
            )
        return replace(
            facts, engine=self.engine, drift=self.drift, notes=tuple(dict.fromkeys(notes))
        )


def together(said: list[Facts]) -> Facts:
    """The facts of the table that these blocks make."""
    return Facts.from_dict(joined([facts.to_dict() for facts in dict.fromkeys(said)]))


def blocks(
    plan: WalkPlan, chunks: Iterable[Chunk], progress: Callable[[int], None] | None
) -> Iterator[Block]:
    """Effects of some chunks, in order: several in one walk, or a block of positions of one at a time."""
    for some in _walks(plan, chunks):
        found = chunk_effects(plan, some[0]) if len(some) == 1 else _many(plan, some)
        for block in found:
            yield block
            if progress is not None:
                progress(len(block.frame))


def drawn_from(found: Iterable[Block], sample: Sample | None) -> Iterator[Block]:
    """The blocks that have rows. Raises InputError where a sample drew none at all."""
    some = False
    for block in found:
        if len(block.frame):
            some = True
            yield block
    if not some and sample is not None:
        raise InputError(
            f"share = {sample.share:g} draws not one removal from these documents: they are too few or too short. "
            "Give more of them, or a larger share."
        )


def _walks(plan: WalkPlan, chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks that go in one walk: as many as fit where weights come and go, else one by one.

    Each layer is then brought once for all of them. Weights that stay gain nothing by it.
    """
    together = plan.operator.scope == "position" and plan.driven and plan.streams
    most = plan.rows_at_once()
    held: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        more = plan.rows_of(len(chunk.ids))
        if held and not (together and rows + more <= most):
            yield held
            held, rows = [], 0
        held.append(chunk)
        rows += more
    if held:
        yield held


def _many(plan: WalkPlan, chunks: list[Chunk]) -> Iterator[Block]:
    """Effects of several chunks, each whole, by one walk."""
    device = plan.model.device
    texts = [torch.as_tensor(chunk.ids, dtype=torch.long, device=device)[None] for chunk in chunks]
    positions = [torch.arange(ids.shape[1] - 1, device=device) for ids in texts]
    for chunk, found in zip(chunks, walk_many(plan, list(zip(texts, positions)))):
        yield _block(plan, chunk, found)


def chunk_effects(plan: WalkPlan, chunk: Chunk) -> Iterator[Block]:
    """Effects of one chunk, a block of positions at a time so that memory stays bounded."""
    device = plan.model.device
    ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=device)[None]
    targets = ids.shape[1] - 1  # the last token predicts nothing that we know
    # Edits of a whole document run the document once, so they take all positions together.
    whole = plan.operator.scope != "position"
    start = 0
    while start < targets:
        steps = plan.steps(targets + 1, start)
        step = targets if whole else plan.positions_at_once(steps, targets)
        positions = torch.arange(start, min(start + step, targets), device=device)
        start += step
        yield _block(plan, chunk, walk(plan, ids, positions))


def _block(plan: WalkPlan, chunk: Chunk, found: Walked) -> Block:
    frame = walked_frame(chunk, found)
    _require_finite(plan, frame)
    limit = rounding(plan.model).verified
    beyond = limit if found.drift > limit else None
    if beyond is not None and found.drifts is not None:
        _require_followed(plan, chunk, found, found.drifts, limit)
    half = is_half(plan.model.dtype)
    return Block(frame, found.engine, found.slower, found.drift, beyond, half)


def _require_followed(
    plan: WalkPlan, chunk: Chunk, found: Walked, drifts: torch.Tensor, limit: float
) -> None:
    """Rows may end elsewhere by rounding, not because a layer does something else with them.

    In half precision experts tie in many a text; a few as long as this one are enough.
    """
    as_long = sum(tokens >= len(chunk.ids) for tokens in plan.cleared)
    if is_half(plan.model.dtype) and as_long >= _CLEARED:
        return
    order = drifts.argsort(descending=True)
    far = found.positions[order[drifts[order] > limit].to(found.positions.device)].tolist()
    ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=plan.model.device)[None]
    left = departure(plan, ids, list(dict.fromkeys(far))[:MOST])
    if left is None:
        plan.cleared.append(len(chunk.ids))
        return
    position, i = left
    layers = plan.model.anatomy.decoder_layers
    where = (
        "what follows the last decoder layer"
        if i is None
        else f"decoder layer {i} ({type(layers[i]).__name__})"
    )
    raise ModelError(
        f"{plan.model.name}: at position {position + chunk.start} of document {chunk.document}, {where} does something "
        "else with the token's hidden state alone than it does in the text. Rows that carry no edit end up to "
        f"{found.drift:.2g} nats from the clean forward, where rounding explains {limit:.2g}, so their effects would "
        "be wrong. Usually a hook of your own acts at one position or depends on how many tokens pass: remove it, "
        "or change the weights instead. The run stops here; nothing was kept of this document."
    )


def _require_finite(plan: WalkPlan, frame: pd.DataFrame) -> None:
    """An effect that is NaN or infinite comes from the model, and is not an effect."""
    bad = ~np.isfinite(frame[["delta_nll", "kl"]].to_numpy()).all(1)
    if bad.any():
        row = frame[bad].iloc[0]
        raise ModelError(
            f"{plan.model.name}: {int(bad.sum())} effects are NaN or infinite, the first in document "
            f"{row.document} at position {row.position}, layer {row.layer}, expert {row.expert}. Finite logits were "
            "expected; the model overflows on this text. Load it with dtype='float32' or leave the "
            "document out. Nothing was kept of it."
        )
