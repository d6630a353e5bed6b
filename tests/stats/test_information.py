"""Mutual information of labels and choices, group by group, against permuted labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from moeaudit.stats.domains.information import mutual_information, permuted_information


def counted(documents=12, cells=5, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 20, (documents, cells)).astype(float)
    return counts, np.array(["code", "law", "news"] * (documents // 3))


def test_it_is_sklearns_on_the_slots_themselves():
    counts, labels = counted()
    label = np.repeat(labels, counts.sum(axis=1).astype(int))
    cell = np.concatenate([np.repeat(np.arange(5), row.astype(int)) for row in counts])
    assert mutual_information(counts, labels)[0] == pytest.approx(mutual_info_score(label, cell))


def test_groups_are_answered_one_by_one_with_the_same_permutations():
    counts, labels = counted()
    other, _ = counted(cells=3, seed=1)
    both = permuted_information(
        np.hstack([counts, other]), labels, np.repeat([4, 9], [5, 3]), permutations=25, seed=2
    )
    for place, alone in enumerate((counts, other)):
        found = permuted_information(alone, labels, permutations=25, seed=2)
        assert both.value[place] == pytest.approx(found.value[0])
        assert both.null[:, place] == pytest.approx(found.null[:, 0])
        assert both.p[place] == found.p[0]


def test_p_counts_the_observed_order_and_ties():
    counts = np.array([[4.0, 0.0], [0.0, 4.0]])
    found = permuted_information(counts, ["a", "b"], permutations=39)
    # Either order of two labels gives ln 2, so every permutation reaches what was observed.
    assert found.value[0] == pytest.approx(np.log(2)) and found.p[0] == 1.0


def test_a_cell_that_nothing_chose_adds_nothing():
    counts, labels = counted()
    empty = np.hstack([counts, np.zeros((12, 1))])
    assert mutual_information(empty, labels)[0] == pytest.approx(
        mutual_information(counts, labels)[0]
    )
