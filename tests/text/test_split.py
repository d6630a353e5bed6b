"""Splits by hash: fixed for ever, and of the stated sizes."""

from __future__ import annotations

import hashlib
from collections import Counter

from moeaudit.text.making.split import SHARES, SPLITS, split_of, text_id


def test_identity_is_the_hash_of_the_utf8_bytes():
    assert text_id("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()


def test_shares():
    assert sum(SHARES.values()) == 100
    counts = Counter(split_of(f"text {n}") for n in range(20000))
    assert set(counts) == set(SPLITS)
    for name, share in SHARES.items():
        # binomial sd at n = 20,000 is at most 57
        assert abs(counts[name] - 200 * share) < 250


def test_fixed_examples():
    # A change here would move documents the bundled models were trained on into the test split.
    examples = {"e": "train", "f": "calibration", "h": "calibration", "r": "test", "z": "train"}
    assert {text: split_of(text) for text in examples} == examples
