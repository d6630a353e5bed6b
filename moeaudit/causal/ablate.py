"""`moeaudit.ablate`: the exact effect of an intervention at every token, layer and active expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError, ModelError

from .effects import COLUMNS, Effects, EffectsFolder, ShardWriter, walked_frame
from .interventions import Intervention, Zero
from .replay import plan_for, replay_for, walk

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.text import Chunk, TokenizedCorpus

    from .wavefront import WalkPlan


def ablate(
    model: Model,
    docs: Any,
    intervention: Intervention | None = None,
    *,
    layers: list[int] | None = None,
    max_length: int | None = None,
    out: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Effects | EffectsFolder:
    """Apply `intervention` to each active expert, one token and one layer at a time.

    `docs` are strings, 1-D token tensors, or a Corpus. Returns an `Effects` DataFrame with one
    row for each (document, position, layer, rank); with `out`, rows are streamed to Parquet
    shards in that folder instead, in bounded memory, and an `EffectsFolder` is returned. Texts
    longer than `max_length` tokens (default: what the model reads) are cut into pieces that do
    not attend to each other. `progress` is called with the number of new rows.

    Every row is exact: the edited token's residual is carried through the later layers against
    the clean keys and values of earlier tokens. Models in which that cannot hold run on batched
    full forwards, and `effects.engine` says so.

    Raises InputError for unknown layers, texts without a token to predict, or token ids outside
    the vocabulary.
    """
    intervention = Zero() if intervention is None else intervention
    texts = tokenize_for(model, docs, max_length)
    plan = plan_for(model, model.anatomy.select(layers), intervention)
    replay = replay_for(model)
    notes = [*texts.notes, *([] if replay.reason is None else [str(replay)])]
    writer = None if out is None else ShardWriter(Path(out))
    frames: list[pd.DataFrame] = []
    keep = frames.append if writer is None else writer.add
    try:
        for chunk in texts.chunks:
            for frame in chunk_effects(plan, chunk):
                keep(frame)
                if progress is not None:
                    progress(len(frame))
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    engine = str(replay_for(model))  # a long text may have changed it
    if writer is not None:
        writer.finish({"intervention": intervention.name, "engine": engine, "notes": notes})
        return EffectsFolder(writer.folder, writer.rows, intervention.name, engine, tuple(notes))
    whole = pd.concat(frames, ignore_index=True)
    return Effects.of(whole, texts, intervention.name, engine, notes)


def tokenize_for(model: Model, docs: Any, max_length: int | None = None) -> TokenizedCorpus:
    """Tokens of `docs` that this model can read; raises InputError where it cannot."""
    from moeaudit.text import TokenizedCorpus, tokenize

    if not isinstance(docs, TokenizedCorpus):
        limit = model.max_length if max_length is None else max_length
        if not 2 <= limit <= model.max_length:
            raise InputError(
                f"max_length = {limit} does not fit: {model.name} reads 2 to {model.max_length} tokens in one "
                "piece. Longer documents are cut into pieces of max_length by themselves."
            )
        return tokenize(docs, model.tokenizer, max_length=limit, vocabulary=model.vocab_size)
    for chunk in docs.chunks:
        low, high = int(chunk.ids.min()), int(chunk.ids.max())
        if low < 0 or high >= model.vocab_size:
            raise InputError(
                f"Document {chunk.document} holds token ids from {low} to {high}; 0 to "
                f"{model.vocab_size - 1} were expected, the vocabulary of {model.name}. Was it "
                "tokenised for another model?"
            )
    return docs


def chunk_effects(plan: WalkPlan, chunk: Chunk) -> Iterator[pd.DataFrame]:
    """Effects of one chunk, a block of positions at a time so that memory stays bounded."""
    device = plan.model.device
    ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=device)[None]
    targets = ids.shape[1] - 1  # the last token predicts nothing that we know
    step = plan.positions_at_once()
    for start in range(0, targets, step):
        positions = torch.arange(start, min(start + step, targets), device=device)
        frame = walked_frame(chunk, walk(plan, ids, positions))
        _require_finite(plan, frame)
        yield frame


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


__all__ = ["COLUMNS", "ablate", "chunk_effects", "tokenize_for"]
