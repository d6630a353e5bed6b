"""What a pruning table claims: by documents for the experts that went, by draws beyond luck."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from moeaudit.pruning import claims
from moeaudit.pruning.evaluate import DocumentSums
from moeaudit.pruning.tables import Resampled, cost_table, interchangeability, pairwise


def made(
    losses: dict[str, float], draws: int = 40, documents: int = 40, sd: float = 0.02, noise=0.01
):
    """A cell: criteria with the given loss above the clean model's, random draws around 0.2."""
    rng = np.random.default_rng(3)
    names = [*losses] + ["random"] * draws
    level = np.array([*losses.values(), *(0.2 + sd * rng.normal(size=draws))])
    count = np.full(documents, 100.0)
    clean = 3.0 * count
    text = rng.normal(size=documents) * 0.1  # shared by all models: differences are paired
    nll = (3.0 + level[:, None] + text + noise * rng.normal(size=(len(names), documents))) * count
    sums = DocumentSums(np.arange(documents), count, clean, nll, np.abs(nll))
    number = [-1] * len(losses) + list(range(draws))
    keys = pd.DataFrame(
        {"criterion": names, "draw": number, "scope": "layer", "depth": "all", "keep": 0.5}
    )
    banned = [{0: (i % 4,)} for i in range(len(names))]
    return keys, banned, Resampled.of(sums, 400, 0, 0.95)


def test_a_place_among_the_draws_by_hand():
    draws = np.array([0.1, 0.2, 0.3, 0.4])
    got = claims.p_draws(np.array([0.05, 0.2, 0.35, 0.9]), draws)
    assert got == pytest.approx([1 / 5, 3 / 5, 4 / 5, 1.0])
    pool = [0.0, 0.5, *draws]
    far = [abs(a - b) for a, b in itertools.combinations(pool, 2)]
    assert claims.p_pair(0.0, 0.5, draws) == pytest.approx(sum(x >= 0.5 for x in far) / 15)


def test_p_over_draws_is_uniform_where_a_criterion_is_one_more_draw():
    rng = np.random.default_rng(1)
    p = [claims.p_draws(rng.normal(size=1), rng.normal(size=39))[0] for _ in range(2000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)
    pair = [claims.p_pair(*rng.normal(size=2), rng.normal(size=20)) for _ in range(2000)]
    assert np.mean(np.array(pair) <= 0.05) == pytest.approx(0.05, abs=0.015)
    spread = [
        claims.p_spread(rng.normal(size=5), rng.normal(size=20), np.random.default_rng(i))
        for i in range(400)
    ]
    assert np.mean(np.array(spread) <= 0.05) <= 0.08


def test_better_than_random_needs_documents_and_draws():
    losses = {"knows": 0.05, "lucky": 0.19, "dear": 0.4}
    keys, banned, boot = made(losses, draws=80, noise=0.005)
    table = cost_table(keys, banned, boot).set_index("criterion")
    knows, lucky, dear = (table.loc[name] for name in losses)
    assert knows.verdict == "predictive" and knows.supports == "experts of this layer"
    assert knows.p_draws == pytest.approx(1 / 81) and knows.p_draws_holm == pytest.approx(3 / 81)
    assert knows.simultaneous_low < -knows.vs_random < knows.simultaneous_high
    assert lucky.vs_random_high < 0  # cheaper than the mean draw, as many draws are
    assert lucky.verdict == "inconclusive" and lucky.supports == "these experts"
    assert dear.p_draws == 1.0 and dear.verdict == "inconclusive"
    assert dear.verdict_these_experts == "reversed"


def test_few_draws_speak_of_these_experts_at_most():
    keys, banned, boot = made({"knows": 0.05, "other": 0.06}, draws=20)
    table = cost_table(keys, banned, boot).set_index("criterion")
    knows = table.loc["knows"]
    assert knows.p_draws == pytest.approx(1 / 21)
    assert knows.verdict == "inconclusive" and knows.supports == "these experts"
    assert knows.verdict_these_experts == "predictive"
    assert claims.draws_needed(1, 0.95) == 19 and claims.draws_needed(10, 0.95) == 199
    keys, banned, boot = made({"knows": 0.05}, draws=19)
    alone = cost_table(keys, banned, boot).set_index("criterion").loc["knows"]
    assert alone.verdict == "predictive" and alone.supports == "experts of this layer"


def test_few_documents_decide_nothing_by_the_rule_of_all_tables():
    for documents, enough in ((9, False), (11, False), (12, True)):
        keys, banned, boot = made({"knows": 0.05, "other": 0.3}, documents=documents)
        row = cost_table(keys, banned, boot).set_index("criterion").loc["knows"]
        (pair,) = pairwise(cost_table(keys, banned, boot), banned, boot).itertuples()
        for one in (row, pair):
            assert (one.verdict == "too few documents to say") != enough
            assert (one.verdict_these_experts == "too few documents to say") != enough
            assert pd.isna(one.too_few) if enough else one.supports is None
    keys, banned, boot = made({"knows": 0.05}, documents=9)
    row = cost_table(keys, banned, boot).set_index("criterion").loc["knows"]
    assert row.too_few == "9 documents, and a verdict needs 12"


def test_one_document_that_carries_a_difference_decides_nothing():
    keys, banned, boot = made({"knows": 0.05})
    boot.sums.nll[keys["criterion"] == "knows", 0] -= 400.0
    row = cost_table(keys, banned, boot).set_index("criterion").loc["knows"]
    assert row.verdict == "too few documents to say"
    assert row.too_few.startswith("few documents carry the effects")


def test_without_draws_nothing_is_said_against_random():
    keys, banned, boot = made({"a": 0.05, "b": 0.3}, draws=0)
    table = cost_table(keys, banned, boot)
    assert table.verdict.isna().all() and table.p_draws.isna().all()
    (pair,) = pairwise(table, banned, boot).itertuples()
    assert pair.verdict == "reversed" and pair.supports == "these experts"  # a loses less than b
    assert np.isnan(pair.p_draws)


def test_pairs_that_luck_would_make_are_of_these_experts():
    keys, banned, boot = made({"a": 0.19, "b": 0.21, "c": 0.6, "d": -0.2}, sd=0.05)
    table = cost_table(keys, banned, boot)
    pairs = pairwise(table, banned, boot).set_index(["a", "b"])
    near, far = pairs.loc[("a", "b")], pairs.loc[("c", "d")]
    assert near.high < 0  # documents show it
    assert near.verdict == "inconclusive" and near.supports == "these experts"
    assert near.verdict_these_experts in ("reversed", "present, size open")
    assert far.supports == "experts of this layer" and far.verdict == "predictive"
    assert (pairs.p_draws_holm >= pairs.p_draws).all()


@pytest.mark.parametrize(
    ("wide", "whom"), [(0.6, "experts of this layer"), (0.23, "these experts")]
)
def test_interchangeability_says_whom_it_speaks_of(wide, whom):
    keys, banned, boot = made({"a": 0.2, "b": 0.4 - wide, "c": wide}, sd=0.05)
    table = cost_table(keys, banned, boot)
    pairs = pairwise(table, banned, boot)
    row = interchangeability(table, pairs, margin=0.001, seed=0).iloc[0]
    assert row.verdict == "not interchangeable" and row.supports == whom
    assert (row.p_spread <= 0.05) == (whom == "experts of this layer")
    few = interchangeability(table, pairs, margin=0.001, seed=0, few=True).iloc[0]
    assert few.verdict == "undecided" and few.supports is None


REFEREE = np.array([-0.001, 0.001, 0.02]), np.array([0.002, 0.003, 0.04])


def test_draws_never_make_smallness_a_claim_about_the_layer():
    p = np.array([0.9, 0.01, 0.01])
    how = {"margin": 0.01, "level": 0.95, "few": [None] * 3}
    said = claims.judged(*REFEREE, p, **how, p_beyond=np.array([1.0, 1.0, 0.01]))
    assert said["verdict"] == ["inconclusive", "present, size open", "predictive"]
    assert said["verdict_these_experts"] == [
        "equivalent to none",
        "present but below",
        "predictive",
    ]
    assert said["supports"] == ["these experts", "experts of this layer", "experts of this layer"]
    # Without the draws' own say about size it stays open, and where draws do not agree nothing is said.
    open_ = claims.judged(*REFEREE, p, **how)
    assert open_["verdict"] == ["inconclusive", *["present, size open"] * 2]
    lucky = claims.judged(*REFEREE, np.full(3, 0.5), **how, p_beyond=np.full(3, 0.01))
    assert lucky["verdict"] == ["inconclusive"] * 3
    assert lucky["supports"] == ["these experts"] * 3
    alone = claims.judged(*REFEREE, np.full(3, np.nan), **how)
    assert alone["verdict"] == said["verdict_these_experts"]
    assert alone["supports"] == ["these experts"] * 3
    wide = claims.judged(*(np.array([x]) for x in (-0.02, 0.03)), p[:1], **{**how, "few": [None]})
    assert wide["verdict"] == ["inconclusive"] and wide["supports"] == [None]


def test_no_word_of_smallness_in_tables_with_draws():
    keys, banned, boot = made({"mean": 0.2, "near": 0.201, "knows": 0.05}, sd=0.03, noise=0.002)
    table = cost_table(keys, banned, boot, margin=0.02)
    pairs = pairwise(table, banned, boot, margin=0.02)
    small = {"equivalent to none", "present but below"}
    for rows in (table, pairs):
        assert small & set(rows.verdict_these_experts.dropna())
        assert not small & set(rows.verdict.dropna())


def test_predictive_of_the_layer_is_beyond_the_draws_and_the_margin():
    losses = {"knows": 0.11}  # the cheapest draw of 40 with sd .02 costs about .155
    words = []
    for margin in (0.01, 0.03, 0.06, 0.2):
        keys, banned, boot = made(losses, noise=0.002)
        row = cost_table(keys, banned, boot, margin=margin).set_index("criterion").loc["knows"]
        draws = boot.mean(boot.sums.nll)[0, 1:]
        left = row.simultaneous_low - margin
        by_hand = (1 + (draws.mean() - draws >= left).sum()) / 41 if left > 0 else 1.0
        assert row.p_beyond == pytest.approx(by_hand)
        assert row.p_draws == pytest.approx(1 / 41) and row.supports == "experts of this layer"
        words.append((row.verdict, row.verdict_these_experts))
    assert words[0] == ("predictive", "predictive")
    assert words[2] == ("present, size open", "predictive")  # documents alone are sure
    assert words[3] == ("present, size open", "present but below")


def test_p_of_a_gain_beyond_the_margin_holds_where_the_gain_is_the_margin():
    rng = np.random.default_rng(4)
    margin, p, pair = 0.5, [], []
    for _ in range(2000):
        draws, own = rng.normal(size=39), rng.normal() - margin
        gain = np.array([draws.mean() - own])
        left = claims.left_over(gain, gain, margin)
        p.append(1.0 if left <= 0 else claims.p_draws(draws.mean() - left, draws)[0])
        a, b = rng.normal(size=2)
        a, b = max(a, b) + margin / 2, min(a, b) - margin / 2
        pair.append(claims.p_pair(a, b, draws[:20], a - b - margin))
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(pair) <= 0.05) <= 0.06
