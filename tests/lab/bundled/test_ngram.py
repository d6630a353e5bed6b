"""The baselines against probabilities worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.lab.bundled.card.ngram import Trigram, windows

TEXT = [np.array([0, 1, 2, 1, 2, 1, 3])]


def test_windows_stay_inside_documents():
    grams, owner = windows([np.array([5, 6]), np.array([9]), np.array([7, 8, 9])])
    assert grams.tolist() == [[5, 5, 6], [7, 7, 8], [7, 8, 9]]
    assert owner.tolist() == [0, 2, 2]


def test_unigram_adds_one():
    # targets 1 2 1 2 1 3 of 6, vocabulary 4: (count + 1) / 10
    p = Trigram(TEXT, 4).unigram(np.array([[0, 0, t] for t in range(4)]))
    assert p == pytest.approx([0.1, 0.4, 0.3, 0.2])


def test_kneser_ney_by_hand():
    # Trigrams: 001, 012, 121 (twice), 212, 213. n1 = 4, n2 = 1: D3 = 4 / 6.
    # Bigram types: 01 (left 0), 12 (left 0, 2), 21 (left 1), 13 (left 2):
    #   counts 1, 2, 1, 1. n1 = 3, n2 = 1: D2 = 3 / 5.
    # Unigram types: 1 (left 0, 2), 2 (left 1), 3 (left 1): counts 2, 1, 1. D1 = 2 / 4.
    one = {1: 1.5 / 4 + 1.5 / 4 / 4, 2: 0.5 / 4 + 1.5 / 4 / 4, 3: 0.5 / 4 + 1.5 / 4 / 4}
    # After 1 (total 3, types 2: 12, 13)
    two = {2: 1.4 / 3 + 1.2 / 3 * one[2], 3: 0.4 / 3 + 1.2 / 3 * one[3], 1: 1.2 / 3 * one[1]}
    # After 2 1 (total 2, types 2: 212, 213)
    d = 4 / 6
    three = {w: (max((w > 1) - d, 0) + 2 * d * two[w]) / 2 for w in (1, 2, 3)}
    p = Trigram(TEXT, 4).trigram(np.array([[2, 1, 1], [2, 1, 2], [2, 1, 3], [3, 1, 2], [1, 0, 1]]))
    assert p[:3] == pytest.approx([three[1], three[2], three[3]])
    assert p[3] == pytest.approx(two[2])  # 3 1 never seen: back to the bigram
    assert p[4] == pytest.approx(0.4 + 0.6 * one[1])  # 1 0 never seen; after 0: 01 alone


def test_probabilities_sum_to_one():
    random = np.random.default_rng(0)
    model = Trigram([random.integers(6, size=300) for _ in range(3)], 8)
    for context in ((0, 1), (5, 5), (6, 0), (7, 7)):
        grams = np.array([[*context, t] for t in range(8)])
        assert model.trigram(grams).sum() == pytest.approx(1.0)
        assert model.unigram(grams).sum() == pytest.approx(1.0)


def test_trigram_learns_what_the_unigram_cannot():
    text = [np.tile([1, 2, 3, 4], 50)]
    model = Trigram(text, 6)
    grams, _ = windows([np.tile([1, 2, 3, 4], 5)])
    assert -np.log2(model.unigram(grams)).mean() > 1.9
    assert -np.log2(model.trigram(grams)).mean() < 0.2
