"""Where it holds: domains put together against other software, and the tables by domain by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import census
from made.shards import Cut
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from moeaudit.errors import InputError
from moeaudit.stats import across_domains, by_domain, contrast, heterogeneity

WITHIN, ACROSS = "within-token contrast", "per-expert expected harm"
Y = np.array([0.12, 0.31, -0.05, 0.22, 0.18, 0.40])
SE = np.array([0.10, 0.08, 0.12, 0.05, 0.09, 0.15])


def test_q_i2_tau2_and_means_are_those_of_statsmodels():
    found = heterogeneity(Y, SE, np.full(6, 19.0))
    theirs = combine_effects(Y, SE**2, method_re="dl")
    assert found.q == pytest.approx(theirs.q, rel=1e-12)
    assert found.i2 == pytest.approx(theirs.i2, rel=1e-12)
    assert found.tau2 == pytest.approx(theirs.tau2, rel=1e-12)
    assert found.mean == pytest.approx(theirs.mean_effect_re, rel=1e-12)
    assert found.mean_se == pytest.approx(theirs.sd_eff_w_re, rel=1e-12)
    assert found.p_q == pytest.approx(stats.chi2.sf(theirs.q, 5), rel=1e-12)
    # the Hartung-Knapp error of the mean
    assert (found.mean_high - found.mean) / stats.t.isf(0.025, 5) == pytest.approx(
        theirs.sd_eff_w_re_hksj, rel=1e-12
    )


def test_the_interval_of_a_new_domain_by_hand():
    """Higgins, Thompson & Spiegelhalter (2009): mean -+ t(K - 2) sqrt(tau2 + se^2)."""
    found = heterogeneity(Y, SE, np.full(6, 19.0))
    w = SE**-2.0
    q = (w * (Y - (w * Y).sum() / w.sum()) ** 2).sum()
    tau2 = max(0.0, (q - 5) / (w.sum() - (w**2).sum() / w.sum()))
    v = 1 / (SE**2 + tau2)
    mean = (v * Y).sum() / v.sum()
    reach = stats.t.ppf(0.975, 4) * np.sqrt(tau2 + 1 / v.sum())
    assert [found.new_low, found.new_high] == pytest.approx([mean - reach, mean + reach])


def test_p_is_welchs_anova_of_group_means():
    """With group means and their errors for estimates, Welch's test for unequal variances."""
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(3)
    groups = [rng.normal(0.3 * i, 1 + i, 8 + 3 * i) for i in range(4)]
    mean = np.array([g.mean() for g in groups])
    se = np.array([g.std(ddof=1) / np.sqrt(len(g)) for g in groups])
    found = heterogeneity(mean, se, np.array([len(g) - 1.0 for g in groups]))
    assert found.p == pytest.approx(anova_oneway(groups, use_var="unequal").pvalue, rel=1e-10)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_too_few_domains_are_refused_with_a_reason(k):
    y = np.append(Y[:k], np.nan)
    found = heterogeneity(y, np.append(SE[:k], np.nan), np.full(k + 1, 9.0))
    assert found.k == k and np.isnan(found.q) and np.isnan(found.new_low)
    assert f"only {k} domain" in str(found.reason) and "3 are needed" in str(found.reason)


def _tables(documents=24, **how):
    effects, metrics = census(documents=documents, tokens=12, **how)
    return effects, metrics, {d: "abc"[d % 3] for d in range(documents)}


def test_a_domain_whose_error_is_rounding_is_left_out():
    y, se = np.append(Y, 1.1), np.append(SE, 3e-16)
    found = heterogeneity(y, se, np.full(7, 12.0))
    assert found == heterogeneity(Y, SE, np.full(6, 12.0))


def test_estimates_of_a_domain_are_those_of_its_documents_alone():
    effects, metrics, domains = _tables(slope=0.2)
    table = by_domain(effects, metrics, domains)
    one = effects[effects["document"] % 3 == 1]
    alone = contrast(one, metrics, controls=("random",), n_boot=50, n_flips=50, n_shuffles=19)
    rows = table[(table["question"] == WITHIN) & (table["domain"] == "b")].set_index(
        ["metric", "layer"]
    )
    for row in alone[alone["role"] == "metric"].itertuples():
        mine = rows.loc[(row.metric, row.layer)]
        assert mine["estimate"] == pytest.approx(row.d_z, abs=1e-12)
        assert mine["low"] == pytest.approx(row.d_z_low, abs=1e-12)
        assert mine["high"] == pytest.approx(row.d_z_high, abs=1e-12)
        assert (mine["n"], mine["n_documents"]) == (row.n, row.n_documents)


def test_whole_and_without_are_over_all_documents_and_over_the_others():
    effects, metrics, domains = _tables(slope=0.2)
    table = by_domain(effects, metrics, domains)
    part = table[(table["metric"] == "id") & (table["layer"] == 1)]
    for question, size in ((WITHIN, _d_z), (ACROSS, _rho)):
        rows = part[(part["question"] == question) & (part["role"] == "metric")]
        assert rows["whole"].to_list() == pytest.approx([size(effects)] * 3)
        rest = [effects[effects["document"] % 3 != i] for i in range(3)]
        order = [rest["abc".index(d)] for d in rows["domain"]]
        assert rows["without"].to_list() == pytest.approx([size(e) for e in order])
        here = [effects[effects["document"] % 3 == "abc".index(d)] for d in rows["domain"]]
        assert rows["estimate"].to_list() == pytest.approx([size(e) for e in here])


def _ends(effects):
    part = effects[effects["layer"] == 1].sort_values("expert")
    ends = part.groupby(["document", "position"])["delta_nll"].agg(["first", "last"])
    return (ends["last"] - ends["first"]).to_numpy()


def _d_z(effects):
    ends = _ends(effects)
    return ends.mean() / ends.std(ddof=1)


def _rho(effects):
    mean = effects[effects["layer"] == 1].groupby("expert")["delta_nll"].mean()
    return stats.spearmanr(mean.index, mean).statistic


def test_metrics_measured_elsewhere_score_the_tokens_of_their_domain():
    effects, metrics, domains = _tables(slope=0.3)
    turned = metrics.assign(value=-metrics["value"])
    measured = pd.concat(
        [
            (turned if domain == "b" else metrics).assign(measured="elsewhere", domain=domain)
            for domain in "abc"
        ]
    )
    table = by_domain(effects, metrics, domains, measured=measured, controls=())
    sign = np.where(table["domain"] == "b", -1.0, 1.0)
    assert table["elsewhere"].to_numpy(float) == pytest.approx(
        sign * table["estimate"].to_numpy(float), abs=1e-12
    )
    assert table["here"].isna().all()
    across = across_domains(table)
    mean = table.groupby(["question", "metric", "layer"])["elsewhere"].mean()
    for row in across.itertuples():
        assert row.elsewhere == pytest.approx(mean.loc[(row.question, row.metric, row.layer)])


def test_shards_give_the_table_of_the_frame():
    effects, metrics, domains = _tables()
    pd.testing.assert_frame_equal(
        by_domain(Cut(effects, 3), metrics, domains), by_domain(effects, metrics, domains)
    )


def test_ranges_name_their_domains():
    effects, metrics, domains = _tables(slope=0.2)
    table = by_domain(effects, metrics, domains)
    across = across_domains(table)
    assert len(across) == len(table) / 3
    for row in across.itertuples():
        mine = table[
            (table["question"] == row.question)
            & (table["metric"] == row.metric)
            & (table["layer"] == row.layer)
        ].set_index("domain")
        assert mine.loc[row.least_domain, "estimate"] == row.least == mine["estimate"].min()
        assert mine.loc[row.most_domain, "estimate"] == row.most == mine["estimate"].max()
        if row.metric in ("id", "odd"):
            assert mine.loc[row.without_most_domain, "without"] == row.without_most
            other = np.sign(mine["estimate"].to_numpy(float)) == -np.sign(row.whole)
            assert row.n_other_sign == other.sum()
        assert row.n_domains == 3 and row.reason is None
        assert row.new_low < row.mean < row.new_high


def test_a_domain_of_few_documents_has_a_reason_and_two_domains_no_interval():
    effects, metrics, _ = _tables()
    domains = {d: "a" if d < 3 else "bc"[d % 2] for d in range(24)}
    table = by_domain(effects, metrics, domains)
    few = table[table["domain"] == "a"]
    assert few["estimate"].isna().all()
    assert few["reason"].str.contains("3 document").all()
    assert table.loc[table["domain"] != "a", "reason"].isna().all()
    across = across_domains(table)
    assert across["q"].isna().all() and across["new_low"].isna().all()
    assert across["reason"].str.contains("only 2 domains have").all()
    assert (across["n_left_out"] == 1).all()


def test_domains_must_be_known():
    effects, metrics, domains = _tables()
    del domains[5]
    with pytest.raises(InputError, match="1 of 24 documents .* have no domain, the first is 5"):
        by_domain(effects, metrics, domains)
    twice = pd.DataFrame({"document": [0, 0], "domain": ["a", "b"]})
    with pytest.raises(InputError, match="stands in two domains"):
        by_domain(effects, metrics, twice)
    with pytest.raises(InputError, match="document and domain"):
        by_domain(effects, metrics, ["a"])
    wrong = metrics.assign(measured="nowhere", domain="a")
    with pytest.raises(InputError, match="elsewhere or here; this table says nowhere"):
        by_domain(effects, metrics, dict.fromkeys(range(24), "a"), measured=wrong)


def _made(rng, k, documents, tokens, tau):
    """Estimates of k domains whose true d_z has the deviation tau, and the true one of a new domain."""
    from moeaudit.stats.sizes.limits import jackknife_se
    from moeaudit.stats.sizes.moments import d_z, jackknife, moments, weighted

    true = 0.1 + tau * rng.standard_normal(k + 1)
    code = np.repeat(np.arange(documents), tokens)
    size, se = [], []
    for value in true[:k]:
        noise = rng.standard_t(5, len(code)) / np.sqrt(5 / 3)
        noise += 0.2 * rng.standard_normal(documents)[code]
        pairs = moments(code, noise + value * np.sqrt(1.04), np.zeros(len(code)))
        size.append(float(d_z(weighted(pairs))[0]))
        se.append(jackknife_se(jackknife(pairs, "d_z")))
    return heterogeneity(np.array(size), np.array(se), np.full(k, documents - 1.0)), true[k]


def test_of_domains_that_do_not_differ_p_is_below_five_percent_at_about_that_rate():
    rng = np.random.default_rng(11)
    p = np.array([_made(rng, 8, 12, 25, 0.0)[0].p for _ in range(500)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.075


def test_domains_that_differ_are_found_and_a_new_one_is_covered():
    rng = np.random.default_rng(12)
    found = [_made(rng, 30, 12, 25, 0.15) for _ in range(250)]
    assert np.mean([h.p <= 0.05 for h, _ in found]) > 0.9
    assert np.median([h.i2 for h, _ in found]) > 0.5
    covered = np.mean([h.new_low <= true <= h.new_high for h, true in found])
    assert 0.91 <= covered <= 0.985
