"""Scores of modularity: planted domains are found, dealt labels are not, one domain is refused."""

import numpy as np
import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.observe.modularity import (
    RouterVectors,
    modularity_scores,
    router_mean,
    router_vectors,
    spherical_kmeans,
    token_clusters,
)


def planted(apart=True, documents=12, tokens=40, experts=8, seed=0):
    """Two domains that use experts 0 and 1, and 2 and 3 (or, not apart, all alike), in one layer."""
    rng = np.random.default_rng(seed)
    domain = tuple("ab"[d % 2] for d in range(documents))
    picks, means, probabilities = [], [], []
    for d in range(documents):
        weight = np.full(experts, 1.0)
        if apart:
            weight[2 * (d % 2) : 2 * (d % 2) + 2] = 9.0
        p = rng.dirichlet(4 * weight, size=tokens)
        means.append(p.mean(0))
        probabilities.append(p)
        picks.append(np.argsort(-p, axis=1)[:, :2])
    whole = np.concatenate(probabilities)
    label = np.repeat(np.arange(documents), tokens)
    return RouterVectors(
        "planted", np.arange(documents), domain, {2: np.stack(means)}, {2: np.concatenate(picks)},
        label, whole, label, rng.integers(0, 5, len(label)),
    )  # fmt: skip


def of(table, score):
    return table[table.score == score].iloc[0]


def test_domains_with_experts_of_their_own_are_found():
    table = modularity_scores(planted(), permutations=99, clusters=4)
    assert list(table.score) == ["topic_cosine", "coverage", "entropy", "cluster_information"]
    assert list(table.layer) == [2, 2, 2, -1]
    # Domains of which one document was dealt elsewhere cover as few experts, so coverage has ties in its null.
    assert (table.p[table.score != "coverage"] == 0.01).all()
    assert of(table, "coverage").p < 0.2 and of(table, "coverage").null_mean > 3
    assert of(table, "coverage").value == 2 and of(table, "topic_cosine").value < 0.5
    assert of(table, "topic_cosine").value < of(table, "topic_cosine").null_low
    assert of(table, "entropy").value < of(table, "entropy").null_low
    # A cluster says nearly everything of two even domains: ln 2.
    assert np.log(2) - 0.05 < of(table, "cluster_information").value <= np.log(2) + 1e-9
    assert (table.documents == 12).all() and (table.domains == 2).all()


def test_labels_without_meaning_are_not():
    found = np.array(
        [
            modularity_scores(planted(False, seed=seed), permutations=39, clusters=4).p
            for seed in range(12)
        ]
    )
    assert 0.3 < found.mean() < 0.7 and (found <= 0.05).mean() < 0.25


def test_a_model_is_read_as_its_router_says():
    model = tiny_moe.load("deepseek_v2")
    docs = [tiny_moe.ids(20, seed) for seed in range(4)]
    vectors = router_vectors(model, docs, first=6, max_length=12)
    assert vectors.layers == [1, 2] and vectors.first.shape == (24, 16)
    assert vectors.first_token.tolist() == [int(t) for ids in docs for t in ids[:6]]
    for layer in vectors.layers:
        np.testing.assert_allclose(vectors.mean[layer].sum(1), 1.0)
    np.testing.assert_allclose(vectors.first.sum(1), 2.0)
    trace = ma.capture(model, docs, max_length=12)
    mine = trace.routing[(trace.routing.layer == 1) & (trace.routing.document == 2)]
    kept = vectors.chosen[1][vectors.token_document == 2]
    assert kept.shape == (20, 3)
    read = [set(group) for _, group in mine.groupby("position").expert]
    seen = [set(row) for t, row in enumerate(kept.tolist()) if t not in (11, 19)]
    assert read == seen  # a trace leaves out tokens that predict nothing: the last of each piece


def test_the_router_mean_is_over_tokens():
    model = tiny_moe.load("olmoe")
    docs = [tiny_moe.ids(5), tiny_moe.ids(20, 1)]
    table = router_mean(model, docs)
    parts = [router_vectors(model, [ids]).mean[1][0] for ids in docs]
    mine = table[table.layer == 1].score.to_numpy()
    np.testing.assert_allclose(mine, (5 * parts[0] + 20 * parts[1]) / 25, atol=1e-6)


def test_directions_are_told_apart():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    points = np.eye(5)[truth] + 0.2 * rng.standard_normal((90, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = spherical_kmeans(points, 3)
    assert all(len(set(found[truth == t])) == 1 for t in range(3)) and len(set(found)) == 3
    assert (found == spherical_kmeans(points, 3)).all()
    same = spherical_kmeans(np.tile(np.eye(5)[0], (6, 1)), 3)  # more clusters than directions
    assert set(same) <= {0, 1, 2}


def test_components_explain_the_variance_that_was_asked_for():
    vectors = planted()
    few, all_ = (token_clusters(vectors, k=4, variance=v).components for v in (0.5, 1.0))
    assert 1 <= few < all_ <= 8
    clusters = token_clusters(vectors, k=4)
    assert 0 <= clusters.token_information < 0.1  # ids were drawn at random


def test_what_is_refused():
    vectors = planted()
    from dataclasses import replace

    with pytest.raises(InputError, match="one domain"):
        modularity_scores(replace(vectors, domain=("a",) * 12))
    with pytest.raises(InputError, match="has one document"):
        modularity_scores(replace(vectors, domain=tuple("abcdefghijkl")))
    with pytest.raises(InputError, match="at least 19"):
        modularity_scores(vectors, permutations=9)
    with pytest.raises(InputError, match="clusters of 480 tokens"):
        token_clusters(vectors, k=480)
    with pytest.raises(InputError, match="variance"):
        token_clusters(vectors, variance=0.0)
    with pytest.raises(InputError, match="the same of every token"):
        token_clusters(replace(vectors, first=np.ones_like(vectors.first)), k=3)
    with pytest.raises(InputError, match="at least 1"):
        router_vectors(tiny_moe.load("olmoe"), [tiny_moe.ids(8)], first=0)
