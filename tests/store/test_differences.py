"""Differences of two questions: what a person reads first, hashes last and in words."""

from __future__ import annotations

from moeaudit.store.differences import told

A, B = "a" * 64, "b" * 64


def test_readable_fields_come_first_and_hashes_last_in_words():
    found = told([("weights", A, B), ("seed", 0, 1), ("effect_text", A, B)])
    assert found == (
        "seed is 0 there and 1 here; the hash of the model's weights is aaaaaaaaaaaa there and bbbbbbbbbbbb here; "
        "the hash of the effect documents is aaaaaaaaaaaa there and bbbbbbbbbbbb here"
    )


def test_a_hash_is_not_said_where_a_count_says_why():
    found = told([("effect_text", A, B), ("effect_documents", 160, 8)], "in the plan")
    assert found == "effect_documents is 160 in the plan and 8 here"


def test_what_is_no_hash_is_said_as_it_is():
    assert told([("text", "bundled", "texts/")]) == "text is 'bundled' there and 'texts/' here"
    assert "weights is none there and bbbbbbbbbbbb here" in told([("weights", None, B)])
