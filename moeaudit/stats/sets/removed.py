"""Effects of sets of experts laid out as arrays: one row a token and layer, one column a set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from moeaudit.errors import InputError

TOKEN = ["document", "position", "layer"]


@dataclass(frozen=True)
class SetEffects:
    """Effects of removing sets: `value[t, s]` is that of `masks[s]` for token t, NaN if not measured.

    `tokens` has the columns document, position, layer; `expert[t, r]` is the expert of rank r there
    (-1 where the table has no row about it alone). Masks are bit masks of ranks.
    """

    tokens: pd.DataFrame
    masks: Int[np.ndarray, " sets"]
    value: Float[np.ndarray, "tokens sets"]
    expert: Int[np.ndarray, "tokens top_k"]

    @property
    def top_k(self) -> int:
        return self.expert.shape[1]

    def of(self, mask: int) -> Float[np.ndarray, " tokens"]:
        """Effects of one set; NaN where it was not removed. The empty set has effect 0."""
        if mask == 0:
            return np.zeros(len(self.tokens))
        found = np.flatnonzero(self.masks == mask)
        return self.value[:, found[0]] if len(found) else np.full(len(self.tokens), np.nan)

    def need(self, masks: list[int], what: str, write: str) -> None:
        """Raise InputError unless every token has all of these sets."""
        lacking = np.asarray(np.isnan([self.of(mask) for mask in masks]).any(0))
        if lacking.any():
            layer = int(self.tokens.layer.iloc[int(np.flatnonzero(lacking)[0])])
            raise InputError(
                f"{what} needs sets of active experts that {int(lacking.sum())} of {len(lacking)} tokens of layer "
                f"{layer} have no row for. Pass the whole table of {write}."
            )


def removed_sets(
    effects: Any, outcome: str, also: str | None = None, *, alone: bool = False
) -> pd.DataFrame:
    """The columns needed of a table of coalitions, as a plain frame, and the column `also` if it is there.

    `effects` is a frame, or a folder of effects (`frames()` or `read()`), which is read once: shard by
    shard, keeping the columns needed. `alone`: a table of single experts, which has no column `members`, is
    one of sets of one.

    Raises InputError for a table without the column `members` or without the outcome.
    """
    frames = [
        _needed(_alone(frame) if alone else frame, outcome, also) for frame in _frames(effects)
    ]
    if not frames:
        raise InputError("The effects have no shard that is finished, so there is nothing to read.")
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _frames(effects: Any) -> Iterator[pd.DataFrame]:
    if isinstance(effects, pd.DataFrame):
        yield pd.DataFrame(effects)
    elif hasattr(effects, "frames"):
        yield from effects.frames()
    else:
        yield pd.DataFrame(effects.read())


def _alone(frame: pd.DataFrame) -> pd.DataFrame:
    """A table about one active expert each, as one of sets that hold its rank alone."""
    if "members" in frame or "rank" not in frame or bool((frame["expert"] < 0).any()):
        return frame
    return frame.assign(members=1 << frame["rank"].to_numpy(np.int64))


def _needed(have: pd.DataFrame, outcome: str, also: str | None) -> pd.DataFrame:
    further = [also] if also in have else []
    wanted = [*TOKEN, "rank", "expert", "weight", "members", *further]
    missing = [name for name in [*wanted, outcome] if name not in have]
    if "members" in missing:
        raise InputError(
            "These effects are not of sets of experts: the column 'members' is missing. Compute them with "
            "ablate(model, docs, Coalitions(...)) or, above six active experts, Permutations(...)."
        )
    if missing or len(have) == 0:
        raise InputError(
            f"The effects have {'no rows' if not missing else f'no column {missing[0]!r}'}; columns are "
            f"{list(have.columns)}. Name one of the outcomes, such as 'delta_nll' or 'kl'."
        )
    if not pd.api.types.is_numeric_dtype(have[outcome]):
        raise InputError(
            f"The column {outcome!r} holds {have[outcome].dtype}; a numeric outcome was expected, such as "
            "'delta_nll' or 'kl'."
        )
    return pd.DataFrame(have, columns=[*wanted, outcome])


def set_size(members: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """How many ranks each bit mask holds."""
    return sum((members >> bit & 1 for bit in range(63)), np.zeros_like(members))


def by_layer(frame: pd.DataFrame, outcome: str) -> list[SetEffects]:
    """One table of sets for each layer (layers may differ in how many experts are active)."""
    return [_laid_out(part, outcome) for _, part in frame.groupby("layer", sort=True)]


def _laid_out(frame: pd.DataFrame, outcome: str) -> SetEffects:
    members = frame.members.to_numpy(np.int64)
    top_k = int(members.max()).bit_length()
    tokens = pd.DataFrame(frame, columns=TOKEN).drop_duplicates()
    tokens = tokens.sort_values(TOKEN, ignore_index=True)
    token = frame.groupby(TOKEN, sort=True).ngroup().to_numpy()
    masks, which = np.unique(members, return_inverse=True)
    value = np.full((len(tokens), len(masks)), np.nan)
    value[token, which] = frame[outcome].to_numpy(np.float64)
    expert = np.full((len(tokens), top_k), -1)
    alone = set_size(members) == 1
    rank = frame["rank"].to_numpy(np.int64)[alone]
    expert[token[alone], rank] = frame.expert.to_numpy(np.int64)[alone]
    return SetEffects(tokens, masks, value, expert)
