"""Which removals a sampled audit makes: a stratified systematic sample of tokens in each layer.

The unit is a token in a layer, with all of its active experts: the contrast compares experts of one token,
and an expert is active at most once in a token, so that its own harm loses nothing by it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from moeaudit.errors import InputError

from ...operators.routing import Operator


@dataclass(frozen=True)
class Sample:
    """A share of the tokens of every document and layer, each with the inclusion probability `share`.

    Strata are document x layer x expert: a token belongs to that of its active experts which is used
    least in this document and layer, since the seldom used ones would else be met by chance alone. Tokens
    stand stratum by stratum, inside one in the order of a hash of (seed, document, layer, position), and every
    1/share-th is taken from a random start (systematic sampling: Madow 1949; implicit stratification: Cochran,
    Sampling Techniques, 1977, section 8.9). So each stratum, and each run of strata, gets its share of tokens up
    to one, and every token has the probability `share` exactly. Documents are drawn from independently.

    The draw depends on the seed, on the document's tokens and on the layer; on nothing else of the corpus, nor
    on how anything is batched.
    """

    share: float
    seed: int = 0

    def most(self, targets: int) -> int:
        """How many of `targets` tokens are drawn at most in one layer."""
        return min(targets, math.floor(targets * self.share) + 1)

    def drawn(
        self, experts: Int[np.ndarray, "targets top_k"], layer: int, document: int
    ) -> Bool[np.ndarray, " targets"]:
        """Which tokens are drawn in a layer, from the active experts of all tokens that have a target.

        `document` is `draws.document_key` of its tokens.
        """
        targets = len(experts)
        start, mix = self._random(layer, document)
        use = np.bincount(experts.ravel())[experts]  # (targets, top_k)
        # Of experts used alike the one with the lowest number, whatever the order of the slots.
        least = np.where(use == use.min(1, keepdims=True), experts, experts.max() + 1).min(1)
        order = np.lexsort((mix.random(targets), mix.random(int(experts.max()) + 1)[least]))
        steps = np.floor(np.arange(targets + 1) * self.share + start)
        taken = np.zeros(targets, dtype=bool)
        taken[order[steps[1:] > steps[:-1]]] = True
        return taken

    def _random(self, layer: int, document: int) -> tuple[float, np.random.Generator]:
        said = f"{self.seed}/{layer}/{document}".encode()
        digest = hashlib.blake2b(said, digest_size=16).digest()
        stream = np.random.default_rng(int.from_bytes(digest, "little"))
        return float(stream.random()), stream


def sample_for(operator: Operator, share: Any, seed: Any = 0) -> Sample | None:
    """The sample that `share` asks for; None for 1, the census.

    Raises InputError for what is no share, and for an operator that runs whole documents, of which a sample
    saves nothing.
    """
    found = share_of(share)
    if found == 1:
        return None
    if operator.scope != "position":
        raise InputError(
            f"share = {share!r}: {operator.name} edits whole documents, and one forward gives the effects at all of "
            "their tokens, so that a sample of them saves nothing. Leave share out, or take fewer documents."
        )
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed = {seed!r}: a whole number was expected.")
    return Sample(found, seed)


def share_of(share: Any) -> float:
    """A share as a number. Raises InputError for anything but a number above 0 and up to 1."""
    try:
        found = math.nan if isinstance(share, (str, bool)) else float(share)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found <= 1:
        raise InputError(
            f"share = {share!r}: the part of all removals that is made, a number above 0 and up to 1, was expected. "
            "Give 0.05 for one in twenty, or leave it out for the census of all of them."
        )
    return found
