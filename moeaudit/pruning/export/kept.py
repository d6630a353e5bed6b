"""Experts that stay, with the story of their choice, which goes into the checkpoint's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Kept(dict[int, list[int]]):
    """Decoder layer -> experts that stay, as a dictionary.

    `chosen` says how they were chosen and what losing the others cost: criterion, keep, scope, depth, draw; `whole`
    and `pruned` (nll, ppl and, of the pruned model, d_nll and kl with their limits), `random` (the draws'
    mean and band, or None), `evaluated` and `calibration` (documents, tokens, domains, sha256), level, seed.
    """

    def __init__(self, experts: Mapping[int, Sequence[int]], chosen: Mapping[str, Any]) -> None:
        super().__init__({layer: list(mine) for layer, mine in experts.items()})
        self.chosen = dict(chosen)
