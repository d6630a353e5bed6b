"""Which split a text belongs to: decided by the text alone, so it never changes between builds."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "calibration", "test")
# Percent of units. A tenth each, since units (a speech, a chapter, a module) are few in some
# slices and the test split has to hold enough independent ones.
SHARES = {"train": 80, "calibration": 10, "test": 10}


def text_id(text: str) -> str:
    """SHA-256 of the UTF-8 bytes, in hexadecimal: the identity of a document."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def split_of(text: str) -> str:
    """`train` (80 %), `calibration` (10 %) or `test` (10 %), from the hash of the text."""
    place = int(text_id(text)[:16], 16) % 100
    for name in SPLITS:
        if place < SHARES[name]:
            return name
        place -= SHARES[name]
    raise AssertionError("the shares add up to 100")
