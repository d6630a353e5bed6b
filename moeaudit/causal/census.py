"""`moeaudit.ablate`: the exact effect of an intervention at every token, layer and active expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.models import Model
from moeaudit.text.for_model import tokens_for

from .effects import COLUMNS, Effects, EffectsFolder, ShardWriter, walked_frame
from .operators.routing import Operator, require_operator
from .operators.weights import Zero
from .outcomes.named import Outcome, further_outcomes
from .walk.engine import plan_for, replay_for, walk

if TYPE_CHECKING:
    from moeaudit.text import Chunk, TokenizedCorpus

    from .walk.plan import WalkPlan


def ablate(
    model: Model,
    docs: Any,
    intervention: Operator | None = None,
    *,
    layers: list[int] | None = None,
    outcomes: Iterable[Outcome] = (),
    horizon: int | Literal["all"] = 0,
    frozen_routing: bool = False,
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

    `outcomes` adds columns: "delta_entropy", "delta_confidence", "delta_brier", a
    `LogitContrast(a, b)`, or functions of (clean logits `"positions vocab"`, edited logits
    `"positions rows vocab"`, target `"positions"`) that return `"positions rows"`. With
    `horizon`, each row carries the next tokens along, and `spill_nll`, `spill_kl` (nats, summed)
    and `spill_flips` say what the edit did to their predictions through attention;
    `tokens_after` is how many there were before the text ended. With `frozen_routing` the layers
    above the edit keep the clean router's answers, so that what is left is the direct effect.
    Tables of other interventions at single positions than `Zero` carry the routing that resulted, largest weight
    first: `after_expert_0`, `after_weight_0` and so on, expert -1 where nobody works.

    Every row is exact: the edited token's residual is carried through the later layers against
    the clean keys and values of earlier tokens. Models in which that cannot hold run on batched
    full forwards, and `effects.engine` says so. `effects.drift` is how far, in nats, rows carried
    without an edit end from the clean forward: what rounding does to a row.

    Raises InputError for unknown layers, texts without a token to predict, token ids outside
    the vocabulary, a horizon that no text reaches, or unknown outcomes.
    """
    intervention = Zero() if intervention is None else intervention
    _check(model, layers, out)
    require_operator(intervention)
    extra = further_outcomes(outcomes)
    texts = tokens_for(model, docs, max_length)
    plan = plan_for(
        model,
        model.anatomy.select(layers),
        intervention,
        extra=extra,
        horizon=_horizon(horizon, texts, intervention),
        frozen=_frozen(frozen_routing, intervention),
        keep_routing=getattr(intervention, "tells_routing", True),
    )
    replay = replay_for(model)
    notes = [*texts.notes, *([] if replay.reason is None else [str(replay)])]
    engines = [str(replay)]
    writer = None if out is None else ShardWriter(Path(out))
    frames: list[pd.DataFrame] = []
    keep = frames.append if writer is None else writer.add
    drift = 0.0
    try:
        for chunk in texts.chunks:
            for frame in chunk_effects(plan, chunk):
                keep(frame)
                drift = max(drift, frame.attrs.pop("drift"))
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
    name = intervention.name + (", routing frozen" if frozen_routing else "")
    if writer is not None:
        facts = {"intervention": name, "engine": engine, "notes": notes, "drift_nats": drift}
        facts |= {"max_length": texts.max_length, "texts_sha256": texts.hash}
        writer.finish(facts)
        return EffectsFolder(
            writer.folder, writer.rows, name, engine, tuple(notes), texts.max_length, drift
        )
    whole = pd.concat(frames, ignore_index=True)
    return Effects.of(whole, texts, name, engine, notes, operator=intervention, drift=drift)


def _horizon(
    horizon: int | Literal["all"], texts: TokenizedCorpus, intervention: Operator
) -> int | None:
    """The horizon as a plan holds it, or InputError where no text is that long."""
    if horizon != "all" and (
        not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 0
    ):
        raise InputError(
            f"horizon = {horizon!r}: a number of tokens from 0, or 'all', was expected."
        )
    if horizon == 0:
        return 0
    if intervention.scope != "position":
        raise InputError(
            f"{intervention.name} edits every position of a document, so no token is only after the edit. "
            "Leave horizon at 0: each row already reads the prediction at its own position."
        )
    longest = max(len(chunk.ids) for chunk in texts.chunks)
    if horizon == "all":
        return None
    if horizon > longest - 2:
        raise InputError(
            f"horizon = {horizon} ends past every text: the longest piece has {longest} tokens, so at most "
            f"{max(0, longest - 2)} predictions come after the first one. Take a smaller horizon, or 'all'."
        )
    return horizon


def _frozen(frozen: bool, intervention: Operator) -> bool:
    if frozen and intervention.scope != "position":
        raise InputError(
            f"{intervention.name} edits every position at once, and frozen routing is not available for it. "
            "Ask for an edit at one position, such as Zero()."
        )
    return bool(frozen)


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
        # Edits of a whole document run the document once, so they take all positions together.
        whole = plan.intervention.scope != "position"
        step = targets if whole else plan.positions_at_once(plan.steps(targets + 1, start))
        positions = torch.arange(start, min(start + step, targets), device=device)
        start += step
        found = walk(plan, ids, positions)
        frame = walked_frame(chunk, found)
        frame.attrs["drift"] = found.drift
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
