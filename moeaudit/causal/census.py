"""`moeaudit.ablate`: the exact effect of an intervention at every token, layer and active expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.models import Model
from moeaudit.text.reading import tokens_for

from .effects import COLUMNS, Effects, EffectsFolder, ShardWriter, walked_frame
from .interventions import Intervention, Zero
from .replay import plan_for, replay_for, walk

if TYPE_CHECKING:
    from moeaudit.text import Chunk

    from .plan import WalkPlan


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
    _check(model, layers, out)
    texts = tokens_for(model, docs, max_length)
    plan = plan_for(model, model.anatomy.select(layers), intervention)
    replay = replay_for(model)
    notes = [*texts.notes, *([] if replay.reason is None else [str(replay)])]
    engines = [str(replay)]
    writer = None if out is None else ShardWriter(Path(out))
    frames: list[pd.DataFrame] = []
    keep = frames.append if writer is None else writer.add
    try:
        for chunk in texts.chunks:
            for frame in chunk_effects(plan, chunk):
                keep(frame)
                if progress is not None:
                    progress(len(frame))
            # A longer text may show that rows cannot follow; both engines are exact, both are named.
            if (now := str(replay_for(model))) not in engines:
                engines.append(now)
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    engine = "; then ".join(engines)
    if writer is not None:
        facts = {"intervention": intervention.name, "engine": engine, "notes": notes}
        facts |= {"max_length": texts.max_length, "texts_sha256": texts.hash}
        writer.finish(facts)
        return EffectsFolder(
            writer.folder, writer.rows, intervention.name, engine, tuple(notes), texts.max_length
        )
    whole = pd.concat(frames, ignore_index=True)
    return Effects.of(whole, texts, intervention.name, engine, notes)


def _check(model: Model, layers: list[int] | None, out: str | Path | None) -> None:
    """Arguments that would otherwise fail later, or elsewhere."""
    if not isinstance(model, Model):
        raise InputError(
            f"ablate() was given a {type(model).__name__} as its model; load it first: "
            "ablate(moeaudit.load(...), docs)."
        )
    if layers is not None and not (
        isinstance(layers, (list, tuple)) and all(isinstance(index, int) for index in layers)
    ):
        raise InputError(
            f"layers = {layers!r}: a list of decoder layer numbers was expected, such as [0, 3]."
        )
    if out is not None and Path(out).is_file():
        raise RunError(f"'{out}' is a file; a new or empty folder was expected for the effects.")


def chunk_effects(plan: WalkPlan, chunk: Chunk) -> Iterator[pd.DataFrame]:
    """Effects of one chunk, a block of positions at a time so that memory stays bounded."""
    device = plan.model.device
    ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=device)[None]
    targets = ids.shape[1] - 1  # the last token predicts nothing that we know
    start = 0
    while start < targets:
        step = plan.positions_at_once(plan.steps(targets + 1, start))
        positions = torch.arange(start, min(start + step, targets), device=device)
        start += step
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


__all__ = ["COLUMNS", "ablate", "chunk_effects"]
