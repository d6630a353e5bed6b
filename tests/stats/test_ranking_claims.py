"""Verdicts of rank correlations: documents and experts, in graded words; ceilings with limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.stats import expert_harm
from moeaudit.stats.contrast.protocol import get_protocol
from moeaudit.stats.ranking.attenuation import Attenuation
from moeaudit.stats.ranking.claims import claims
from moeaudit.stats.ranking.correlation import paired_spearman, spearman_rows
from moeaudit.stats.ranking.harm import Harm
from moeaudit.stats.ranking.reliability import attenuation, reliability
from moeaudit.stats.ranking.row import ABOVE_CEILING


def judged(
    p_docs=0.01, p_luck=0.01, small=(1.0, 1.0), beyond=(0.01, 0.01), rho=0.6, few=None, **settings
):
    """The verdicts of one cell with the given p; sizes by both samples, then by documents."""
    part = pd.DataFrame({"rho": [rho], "rho_true_low": [-1.0], "rho_true_high": [1.0]})
    part["too_few"] = pd.Series([few], dtype=object)
    columns = {
        "p_documents": np.array([p_docs]),
        "p_documents_maxt": np.array([p_docs]),
        "p_maxt": np.array([p_luck]),
        "p_holm": np.array([p_luck]),
        "p_equivalence_crossed": np.array([small[0]]),
        "p_equivalence": np.array([small[1]]),
        "p_beyond": np.array([beyond[0]]),
        "p_beyond_these": np.array([beyond[1]]),
    }
    found = claims(part, columns, 0.3, get_protocol("moeaudit").with_(**settings))
    return tuple(found[name][0] for name in ("verdict", "verdict_these_experts", "supports"))


LAYER, THESE = "experts of this layer", "these experts"


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, ("predictive", "predictive", LAYER)),
        ({"rho": -0.6}, ("reversed", "reversed", LAYER)),
        ({"beyond": (0.2, 0.2)}, ("present, size open", "present, size open", LAYER)),
        ({"beyond": (0.2, 0.01)}, ("present, size open", "predictive", LAYER)),
        ({"beyond": (np.nan, np.nan)}, ("present, size open", "present, size open", LAYER)),
        (
            {"beyond": (1.0, 1.0), "small": (0.01, 0.01)},
            ("present but below", "present but below", LAYER),
        ),
        (
            {"beyond": (1.0, 1.0), "small": (0.2, 0.01)},
            ("present, size open", "present but below", LAYER),
        ),
        ({"p_luck": 0.2}, ("inconclusive", "predictive", THESE)),
        ({"p_docs": 0.2}, ("inconclusive", "inconclusive", None)),
        (
            {"p_docs": 0.2, "small": (0.01, 0.01)},
            ("equivalent to none", "equivalent to none", LAYER),
        ),
        ({"p_docs": 0.2, "small": (0.2, 0.01)}, ("inconclusive", "equivalent to none", None)),
        (
            {"p_luck": 0.2, "small": (0.01, 0.01)},
            ("equivalent to none", "present but below", LAYER),
        ),
        ({"p_luck": 0.2, "small": (0.2, 0.01)}, ("inconclusive", "present but below", THESE)),
        ({"p_luck": 0.9, "experts": False}, ("predictive", "predictive", THESE)),
        ({"decision": "holm"}, ("predictive", "predictive", LAYER)),
        ({"equivalence": None, "beyond": (0.2, 0.2)}, ("predictive", "predictive", LAYER)),
    ],
)
def test_a_verdict_needs_documents_and_experts(given, want):
    assert judged(**given) == want


def test_more_documents_never_make_a_finding_fewer():
    # A true correlation above the bound, ever better known: the words only go up.
    order = ["inconclusive", "present, size open", "predictive"]
    rng = np.random.default_rng(2)
    true = np.linspace(-1, 1, 24)
    metrics = pd.DataFrame(
        {"layer": 1, "expert": range(24), "metric": "m", "value": true + 0.35 * rng.normal(size=24)}
    )
    effects, _ = census(documents=160, tokens=20, layers=(1,), experts=24, seed=4)
    effects["delta_nll"] = 3 * effects["delta_nll"] + true[effects["expert"]]
    seen = []
    for n in (16, 48, 160):
        part = effects[effects["document"] < n]
        row = expert_harm(part, metrics, controls=("random",), **QUICK).iloc[0]
        seen.append(order.index(row.verdict))
    assert seen == sorted(seen) and seen[-1] == 2


def test_documents_alone_cannot_see_luck_over_experts():
    # Harm known to the last digit, and a metric drawn by dice: these experts do differ along it.
    rng = np.random.default_rng(11)
    effects, _ = census(documents=60, layers=(1, 2, 3, 4), experts=8, seed=1)
    effects["delta_nll"] = 0.01 * effects["delta_nll"] + rng.normal(size=8)[effects["expert"]]
    dice = pd.DataFrame(
        [(y, e, f"d{m}", rng.random()) for y in (1, 2, 3, 4) for e in range(8) for m in range(5)],
        columns=["layer", "expert", "metric", "value"],
    )
    table = expert_harm(effects, dice, **QUICK)
    rows = table[table.role == "metric"]
    shown = ["predictive", "reversed", "present, size open", "present but below"]
    assert rows.verdict_these_experts.isin(shown).sum() >= 5
    assert not rows.verdict.isin(shown).any()
    assert set(rows.supports[rows.verdict_these_experts.isin(shown)]) == {"these experts"}


def halves_of(documents, experts, reliable, rng):
    """Harm of experts, seen through t4 noise at a reliability, and how to see it again."""
    true = rng.normal(size=experts)
    sd = np.sqrt(documents * (1 - reliable) / reliable / 2)

    def seen():
        return true + sd * rng.standard_t(4, size=(documents, experts))

    return seen


def test_limits_of_the_ceiling_hold_what_other_documents_would_give():
    rng = np.random.default_rng(8)
    documents, experts, hits, widths = 40, 16, 0, []
    for run in range(100):
        seen = halves_of(documents, experts, 0.75, rng)
        a, b = (np.stack([seen().mean(axis=0) for _ in range(100)]) for _ in range(2))
        truth = np.sqrt(max(paired_spearman(a, b).mean(), 0.0))
        ones = np.ones((documents, experts))
        harm = Harm(run, np.arange(experts), seen(), ones, ones[:, 0], 0, "active_token")
        noise = attenuation(harm, 0, n_splits=60)
        assert noise.reliability == reliability(harm, 0, 60)
        low, high = noise.ceiling_limits
        assert low <= noise.ceiling <= high
        hits += low <= truth <= high
        widths.append(high - low)
    assert hits >= 88 and np.median(widths) < 0.4


def test_ceilings_have_limits_and_ignorance_has_the_widest():
    noise = Attenuation(0.64, 0.36, 0.81)
    assert noise.ceiling_limits == pytest.approx((0.6, 0.9))
    assert noise.of_halves.reliability == pytest.approx(0.64 / 1.36)
    assert noise.of_halves.ceiling_limits[0] == pytest.approx(np.sqrt(0.36 / 1.64))
    assert Attenuation(float("nan")).ceiling_limits == (0.0, 1.0)
    assert noise.z_documents(0.3, np.full(5, 0.2)) == np.inf
    table = expert_harm(*census(slope=0.2), **QUICK)
    assert ((table.ceiling_low <= table.ceiling) & (table.ceiling <= table.ceiling_high)).all()


def test_a_correlation_above_its_ceiling_says_so():
    effects, metrics = census(documents=20, slope=0.12, experts=8, seed=6)
    table = expert_harm(effects, metrics, **QUICK)
    above = (table.rho.abs() > table.ceiling) & (table.ceiling > 0)
    assert above.any() and not above.all()
    assert (table.caution[above] == ABOVE_CEILING).all()
    assert (table.caution[~above] != ABOVE_CEILING).all()


def test_partial_correlation_given_use_by_hand():
    effects, metrics = census(documents=30, layers=(1,), slope=0.2)
    effects = effects[(effects["expert"] > 2) | (effects["position"] % 3 > 0)]
    row = expert_harm(effects, metrics, **QUICK).set_index("metric").loc["id"]
    use = effects.groupby("expert").size().to_numpy(float)
    harm = effects.groupby("expert").delta_nll.mean().to_numpy()
    ranks = [pd.Series(v).rank().to_numpy() for v in (np.arange(8.0), harm, use)]
    fits = [np.polynomial.Polynomial.fit(ranks[2], r, 1)(ranks[2]) for r in ranks[:2]]
    want = np.corrcoef(ranks[0] - fits[0], ranks[1] - fits[1])[0, 1]
    assert row.rho_given_use == pytest.approx(want, abs=1e-9)
    same = metrics.assign(value=use[metrics["expert"]])
    row = expert_harm(effects, same, **QUICK).iloc[0]
    assert pd.isna(row.rho_given_use) and "as their use does" in row.no_given_use
    assert spearman_rows(use[None], use[None])[0, 0] == pytest.approx(1)


def test_too_few_documents_have_no_verdict_whatever_the_numbers():
    assert judged(few="8 documents, and a verdict needs 12") == (
        *("too few documents to say",) * 2,
        None,
    )
