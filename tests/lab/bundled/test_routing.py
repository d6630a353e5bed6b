from __future__ import annotations

import numpy as np
import pytest

from moeaudit.lab.bundled.card.routing import dependence, utilisation
from moeaudit.stats.domains.information import mutual_information


def test_mutual_information_of_known_tables():
    apart = np.array([[4.0, 0.0], [0.0, 4.0]])
    assert mutual_information(apart, ["a", "b"]) == pytest.approx(np.log(2))
    assert mutual_information(np.ones((2, 2)), ["a", "b"]) == pytest.approx(0.0)
    # P = [[3, 1], [1, 3]] / 8
    leaning = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert mutual_information(np.array([[3.0, 1], [1, 3]]), ["a", "b"]) == pytest.approx(leaning)


def documents(lean: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """40 documents of 200 tokens, each with its own taste in experts; domains lean by `lean`."""
    random = np.random.default_rng(seed)
    labels = ["a", "b"] * 20
    taste = random.dirichlet(np.ones(4), size=40)
    domain = {"a": np.array([1.0, 0, 0, 0]), "b": np.array([0, 0, 0, 1.0])}
    rates = [(1 - lean) * t + lean * domain[label] for t, label in zip(taste, labels)]
    return np.array([random.multinomial(200, r) for r in rates]).astype(float), labels


def test_null_deals_whole_documents():
    counts, labels = documents(lean=0.0)
    found = dependence(counts, labels)
    assert found.p > 0.05
    # Documents differ, so the null is far above zero; shuffled tokens would put it near
    # (experts - 1)(domains - 1) / 2n = 0.0002.
    assert found.null_mean > 0.005


def test_specialisation_stands_out():
    counts, labels = documents(lean=0.5)
    found = dependence(counts, labels)
    assert found.p == pytest.approx(1 / 200)
    assert found.value > 2 * found.null_95


def test_null_p_values_are_not_too_small():
    p = [dependence(*documents(0.0, seed), permutations=39).p for seed in range(40)]
    assert 0.2 < np.mean(p) < 0.8
    assert np.mean(np.array(p) <= 0.05) < 0.2


def test_utilisation():
    assert utilisation(np.array([[1.0, 0, 3], [1, 0, 1]])) == pytest.approx([1.0, 0.0, 2.0])
