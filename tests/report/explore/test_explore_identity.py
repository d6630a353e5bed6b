"""What token identity explains: against all pairs, and on tables where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.report.explore.identity import PairSums, harm_share, use_share

CELLS, VOCABULARY = 2, 300


def rows(seed=0, documents=24, tokens=120):
    rng = np.random.default_rng(seed)
    n = documents * tokens
    # Zipf, so that most kinds of token are rare.
    token = np.minimum(rng.zipf(1.4, n), VOCABULARY) - 1
    return np.repeat(np.arange(documents), tokens), token, rng


def shares(document, token, y, frames=3):
    """The share of y, all rows in cell 1, added up in several frames."""
    sums = PairSums(VOCABULARY)
    for part in np.array_split(np.unique(document), frames):
        mine = np.isin(document, part)
        here = np.unique(document[mine], return_inverse=True)[1]
        sums.add(np.ones(mine.sum(), dtype=int), token[mine], here, y[mine])
    seen = np.array([0, len(np.unique(document))])
    mean, variance = np.array([np.nan, y.mean()]), np.array([np.nan, y.var()])
    return harm_share(sums, mean, variance, seen)


def by_pairs(document, token, y):
    """The formula as it stands: every pair of occurrences in two documents."""
    off, above, covered = y - y.mean(), 0.0, 0
    for kind in np.unique(token):
        at = np.flatnonzero(token == kind)
        other = document[at][:, None] != document[at][None]
        if other.any():
            above += len(at) * (off[at][:, None] * off[at][None])[other].mean()
            covered += len(at)
    return above / (covered * y.var())


def test_the_sums_are_those_of_all_pairs():
    document, token, rng = rows(documents=12, tokens=40)
    y = rng.normal(size=VOCABULARY)[token] + rng.normal(size=len(token))
    found = shares(document, token, y)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(by_pairs(document, token, y), rel=1e-9)
    assert found[1] == pytest.approx(shares(document, token, y, frames=1)[1], rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_known_share_is_found_and_rare_tokens_explain_no_noise(share):
    found = []
    for seed in range(8):
        document, token, rng = rows(seed)
        of_token = rng.normal(size=VOCABULARY)[token]
        of_token = (of_token - of_token.mean()) / of_token.std()
        y = np.sqrt(share) * of_token + np.sqrt(1 - share) * rng.normal(size=len(token))
        found.append(shares(document, token, y)[1])
    assert np.mean(found) == pytest.approx(share, abs=0.05)
    naive = 1 - np.mean([y[token == v].var() for v in np.unique(token)]) / y.var()
    if share == 0:
        assert naive > 0.3  # what the means of each token would claim


def test_what_documents_share_is_not_the_tokens():
    """Each document likes its own expert, and repeats its own words: the token explains nothing across documents."""
    document, token, rng = rows()
    y = rng.normal(size=24)[document] + 0.1 * rng.normal(size=len(token))
    assert shares(document, token, y)[1] < 0.1


def test_use_counts_the_tokens_that_did_not_choose_the_expert():
    document, token, rng = rows()
    chosen = (token % 2 == 0) ^ (rng.random(len(token)) < 0.1)
    p = chosen.mean()
    occurs = np.bincount(token, minlength=VOCABULARY).astype(float)
    table = np.zeros((24, VOCABULARY))
    np.add.at(table, (document, token), 1)
    sums = PairSums(VOCABULARY)
    often = table[document, token][chosen]
    sums.add(
        np.zeros(chosen.sum(), dtype=int),
        token[chosen],
        document[chosen],
        np.ones(chosen.sum()),
        often,
    )
    found = use_share(
        sums,
        occurs,
        (table**2).sum(0),
        np.array([float(chosen.sum())]),
        float(len(token)),
        np.array([24]),
    )
    assert found[0] == pytest.approx(by_pairs(document, token, chosen.astype(float)), rel=1e-9)
    assert 0.5 < found[0] < 0.8 and 0 < p < 1


def test_too_little_is_null():
    document, token, rng = rows(documents=4)
    assert np.isnan(shares(document, token, rng.normal(size=len(token)))).all()
