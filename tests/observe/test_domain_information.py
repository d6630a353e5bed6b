"""Domain information: closed forms, an independent estimate, and a null that means something."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made import routing_tables as tables
from scipy.stats import entropy

from moeaudit.errors import InputError
from moeaudit.observe import Trace, domain_information, expert_metrics


def split_by_domain(documents: int = 12, length: int = 5) -> Trace:
    """Domain a uses experts 0 and 1 evenly, domain b experts 2 and 3."""
    tokens, routing = [], []
    for document in range(documents):
        for position in range(length):
            tokens.append((document, "ab"[document % 2], position, 1, 1))
            for rank in range(2):
                expert = 2 * (document % 2) + (rank + position) % 2
                routing.append((document, position, 0, rank, expert, 0.5, 1.0, 0.1))
    return tables.trace_of(tokens, routing, experts=5)


def test_disjoint_domains_give_the_entropy_of_the_domain():
    table = domain_information(split_by_domain(), permutations=99)
    assert table["mi"].tolist() == pytest.approx([math.log(2)])
    # Only labellings that separate the documents as the true one does reach it: 2 of 924.
    assert 0.01 <= table["p_value"][0] <= 0.03
    assert table["null_mean"][0] < 0.3 and table["null_q95"][0] < math.log(2)
    assert table["excess"][0] == pytest.approx(math.log(2) - table["null_mean"][0])


def test_equals_an_independent_estimate():
    trace = tables.random_trace()
    table = domain_information(trace, permutations=3).set_index("layer")
    rows = trace.routing.merge(trace.tokens, on=["document", "position"])
    for layer, mine in rows.groupby("layer"):
        joint = pd.crosstab(mine["domain"], mine["expert"]).to_numpy() / len(mine)
        mi = entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.reshape(-1))
        assert table.loc[layer, "mi"] == pytest.approx(mi)


def test_experts_average_to_the_layer():
    trace = tables.random_trace(seed=3)
    metric = expert_metrics(trace, ["domain_mi"])
    total = metric.groupby("layer").apply(
        lambda rows: np.nansum(rows["value"] * rows["n_active"]) / rows["n_active"].sum()
    )
    mi = domain_information(trace, permutations=1).set_index("layer")["mi"]
    np.testing.assert_allclose(total, mi)


def test_no_relation_is_not_called_one():
    # Every document prefers experts of its own, whatever its domain: tokens are far from
    # independent, and a null that shuffled tokens would find a relation.
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(60):
        tokens, routing = [], []
        for document in range(10):
            favourites = rng.choice(6, size=2, replace=False)
            for position in range(8):
                tokens.append((document, "ab"[document % 2], position, 1, 1))
                expert = int(favourites[int(rng.integers(2))])
                routing.append((document, position, 0, 0, expert, 1.0, 1.0, 0.1))
        trace = tables.trace_of(tokens, routing, experts=6)
        p_values.append(domain_information(trace, permutations=49)["p_value"][0])
    assert np.mean(np.array(p_values) <= 0.1) <= 0.22  # binomial(60, .1) is below .22 in 99.7 %
    assert 0.35 < np.mean(p_values) < 0.65


def test_the_null_is_seeded():
    trace = tables.random_trace()
    first, again = (domain_information(trace, 20, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(domain_information(trace, 20, seed=6))


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(InputError, match="2 documents in 2 domains"):
        domain_information(tables.by_hand())
    trace = split_by_domain()
    one = trace.tokens.assign(domain=pd.Categorical(["a"] * len(trace.tokens)))
    with pytest.raises(InputError, match="1 domains"):
        domain_information(Trace(one, trace.routing, trace.facts))
    with pytest.raises(InputError, match="0 permutations"):
        domain_information(trace, permutations=0)
