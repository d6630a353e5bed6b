"""Balance by sequence, micro-batch and over all, and what it says of domains: values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from made import routing_tables as tables

import moeaudit as ma
from moeaudit.errors import InputError


def trace(choices_of_document, domains, experts=4):
    """One layer; for each document the experts that each of its tokens chooses, weights alike."""
    tokens, routing = [], []
    for d, choices in enumerate(choices_of_document):
        for p, chosen in enumerate(choices):
            tokens.append((d, domains[d], p, 1, 1))
            for rank, expert in enumerate(chosen):
                routing.append((d, p, 0, rank, expert, 0.5, 1.0, 0.1))
    return tables.trace_of(tokens, routing, experts)


def disjoint(documents=4):
    """Domain A uses experts 0 and 1, domain B 2 and 3, evenly."""
    of = {"A": [(0,), (1,)] * 3, "B": [(2,), (3,)] * 3}
    domains = ["AB"[d % 2] for d in range(documents)]
    return trace([of[domain] for domain in domains], domains)


def test_two_disjoint_domains_are_2_by_micro_batch_and_1_globally():
    table = ma.load_balance(disjoint(), micro="domain")
    assert table["micro"].tolist() == pytest.approx([2.0])
    assert table["global"].tolist() == pytest.approx([1.0])
    assert table["batches"].tolist() == [2]
    index = ma.domain_separation(disjoint(8), permutations=99)
    assert index[["micro", "global", "separation"]].iloc[0].tolist() == pytest.approx([2, 1, 2])
    assert index["p_value"][0] <= 0.1 and index["null_mean"][0] < 1.6


def test_micro_batches_of_documents_in_order():
    # Pairs hold one document of each domain, so they are even; single documents are not.
    assert ma.load_balance(disjoint(), micro=2)["micro"][0] == pytest.approx(1.0)
    assert ma.load_balance(disjoint(), micro=1)["micro"][0] == pytest.approx(2.0)
    table = ma.load_balance(disjoint(), micro=1)
    assert table["micro"][0] == table["sequence"][0]
    last = ma.load_balance(disjoint(4), micro=3)  # three documents, and the one that is left
    assert last["batches"][0] == 2
    assert last["micro"][0] == pytest.approx((4 * (2 * (1 / 3) ** 2 + 2 * (1 / 6) ** 2) + 2) / 2)


def test_shuffled_micro_batches_are_near_global():
    many = [[(2 * (d % 2) + t % 2,) for t in range(400)] for d in range(4)]
    table = ma.load_balance(trace(many, ["A", "B", "A", "B"]), micro=1, seed=3)
    assert table["micro"][0] == pytest.approx(2.0)
    assert table["shuffled"][0] == pytest.approx(1.0, abs=0.03)
    again = ma.load_balance(trace(many, ["A", "B", "A", "B"]), micro=1, seed=3)
    assert again["shuffled"][0] == table["shuffled"][0]


def test_separation_of_alike_domains_is_1_and_within_the_null():
    rng = np.random.default_rng(0)
    documents = [[(int(e),) for e in rng.integers(0, 4, 60)] for _ in range(12)]
    index = ma.domain_separation(trace(documents, ["A", "B", "C"] * 4), permutations=99)
    assert index["separation"][0] == pytest.approx(1.0, abs=0.05)
    assert index["p_value"][0] > 0.05
    assert abs(index["excess"][0]) < 0.03


def test_domains_of_unequal_size_weigh_alike():
    choices = [[(0,), (1,)]] * 5 + [[(2,), (3,)]]
    index = ma.domain_separation(trace(choices, ["A"] * 5 + ["B"]), permutations=9)
    assert index[["micro", "global"]].iloc[0].tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("micro", [0, 5, 1.5, "document", True])
def test_micro_batches_that_cannot_be(micro):
    with pytest.raises(InputError, match="a number of documents from 1 to the 4"):
        ma.load_balance(disjoint(), micro=micro)


def test_one_domain_has_no_separation():
    one = trace([[(0,)]] * 3, ["A"] * 3)
    with pytest.raises(InputError, match="'A'"):
        ma.load_balance(one, micro="domain")
    with pytest.raises(InputError, match="3 documents in 1 domain\\."):
        ma.domain_separation(one)
    with pytest.raises(InputError, match="2 documents in 2 domains"):
        ma.domain_separation(disjoint(2))
    with pytest.raises(InputError, match="0 permutations"):
        ma.domain_separation(disjoint(), permutations=0)
