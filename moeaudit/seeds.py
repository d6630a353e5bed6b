"""Random generators named by what they are for, so that no draw depends on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np

from .errors import InputError


def check_seed(seed: int) -> int:
    """A seed that numpy takes. Raises InputError for what is no whole number, or is negative."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"The seed is {seed!r}; it must be a whole number, 0 or more.")
    return int(seed)


def generator(seed: int, *labels: object) -> np.random.Generator:
    """A generator that belongs to `seed` and to a label such as ("random", layer).

    Two labels give independent streams, and the stream of one label never moves because another
    was drawn first. The labels are hashed (SHA-256) and given to numpy's SeedSequence.
    """
    text = "\x1f".join(str(label) for label in labels)
    check_seed(seed)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))
