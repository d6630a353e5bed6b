"""The harm of each expert with limits, from a census and from a sample, and what a screen adds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import census

from moeaudit.errors import InputError
from moeaudit.stats import contrast, expert_harm, harm_by_expert
from moeaudit.stats.clustered import Clustered
from moeaudit.stats.sizes.limits import adjusted_limits, means_of_columns


@pytest.fixture
def effects():
    return census(documents=30, tokens=20, slope=0.1)[0]


def sampled(effects, share=0.4, seed=0):
    """Whole tokens of each layer, drawn by chance, with their probability."""
    keys = effects[["document", "position", "layer"]]
    token = keys.groupby([*keys]).ngroup().to_numpy()
    taken = np.random.default_rng(seed).random(token.max() + 1) < share
    return effects[taken[token]].assign(pi=share).reset_index(drop=True)


def test_of_a_census_it_is_the_mean_with_adjusted_limits(effects):
    found = harm_by_expert(effects).set_index(["layer", "expert"])
    means = Clustered(["layer", "expert"], ["delta_nll"], limits="adjusted")(effects)
    means = means.set_index(["layer", "expert"])
    assert found["harm"].to_numpy() == pytest.approx(means["delta_nll"].to_numpy())
    assert found["harm_low"].to_numpy() == pytest.approx(means["delta_nll_low"].to_numpy())
    assert found["harm_high"].to_numpy() == pytest.approx(means["delta_nll_high"].to_numpy())
    assert (found["rows"] == means["rows"]).all() and found["rows"].sum() == len(effects)


def test_the_limits_are_those_of_leaving_documents_out(effects):
    part = effects[(effects["layer"] == 1) & (effects["expert"] == 3)]
    sums = part.groupby("document")["delta_nll"].agg(["sum", "size"]).to_numpy(float)
    left = (sums[:, 0].sum() - sums[:, 0]) / (sums[:, 1].sum() - sums[:, 1])
    low, high = adjusted_limits(float(part["delta_nll"].mean()), left, 0.9)
    row = harm_by_expert(effects, level=0.9).query("layer == 1 and expert == 3").iloc[0]
    assert (row["harm_low"], row["harm_high"]) == pytest.approx((low, high))


def test_limits_of_many_cells_are_those_of_each():
    rng = np.random.default_rng(0)
    count = rng.integers(0, 5, (20, 5)).astype(float)
    total = np.where(count > 0, rng.exponential(1, (20, 5)) * count, 0)
    total[:, 4] = count[:, 4]  # no spread at all
    mean, low, high = means_of_columns(total, count, 0.95)
    for c in range(5):
        there = count[:, c] > 0
        left = (total[:, c].sum() - total[:, c]) / (count[:, c].sum() - count[:, c])
        alone = adjusted_limits(float(mean[c]), left[there], 0.95)
        assert (low[c], high[c]) == pytest.approx(alone, abs=1e-9)


def test_one_document_has_no_limits_and_few_rows_a_caution(effects):
    few = effects[effects["document"] == 0]
    found = harm_by_expert(few)
    assert found[["harm_low", "harm_high"]].isna().all(axis=None) and found["harm"].notna().all()
    assert found["caution"].str.contains("fewer than 30").all()
    assert harm_by_expert(effects)["caution"].isna().all()


def test_a_sample_gives_the_same_on_the_whole_with_wider_limits(effects):
    whole = harm_by_expert(effects)
    part = harm_by_expert(sampled(effects))
    assert 0.3 * len(effects) < part["rows"].sum() < 0.5 * len(effects)
    inside = (part["harm_low"] < whole["harm"]) & (whole["harm"] < part["harm_high"])
    assert inside.mean() > 0.8
    width = (part["harm_high"] - part["harm_low"]) / (whole["harm_high"] - whole["harm_low"])
    assert 1.1 < width.median() < 2


def screened(effects, noise, seed=0):
    rng = np.random.default_rng(seed)
    keys = ["document", "position", "layer", "rank", "expert"]
    told = 0.5 * effects["delta_nll"] + noise * rng.normal(size=len(effects))
    return effects[keys].assign(estimate=told)


def test_a_screen_that_knows_all_gives_the_census(effects):
    part = sampled(effects, 0.3)
    found = harm_by_expert(part, screen=screened(effects, 0.0))
    whole = harm_by_expert(effects)
    assert found["assisted"].all() and found["slope"].to_numpy() == pytest.approx(2, rel=0.1)
    off, plain = (abs(found[name] - whole["harm"]).mean() for name in ("harm", "plain"))
    assert off < 0.15 * plain
    width = (found["harm_high"] - found["harm_low"]) / (whole["harm_high"] - whole["harm_low"])
    assert width.median() == pytest.approx(1, abs=0.1)
    assert found["plain"].to_numpy() == pytest.approx(harm_by_expert(part)["harm"].to_numpy())


def test_a_screen_narrows_by_what_it_knows_and_one_of_noise_does_not(effects):
    part = sampled(effects, 0.3)
    good = harm_by_expert(part, screen=screened(effects, 0.3))
    before, after = (good[f"{x}_high"] - good[f"{x}_low"] for x in ("plain", "harm"))
    assert good["assisted"].all() and 0.4 < (after / before).median() < 0.95
    noise = harm_by_expert(part, screen=screened(effects.assign(delta_nll=0.0), 1.0))
    kept = ~noise["assisted"]
    assert (noise["harm"] == noise["plain"])[kept].all()
    assert abs(noise["slope"]).max() < 0.3


def test_a_screen_of_other_removals_or_outcomes_is_refused(effects):
    part, told = sampled(effects), screened(effects, 0.1)
    with pytest.raises(InputError, match="no estimate of"):
        harm_by_expert(part, screen=told[told["document"] > 3])
    with pytest.raises(InputError, match="estimates delta_nll"):
        harm_by_expert(part, screen=told, outcome="kl")


def test_rows_with_different_chances_are_refused_and_one_chance_is_not():
    effects, metrics = census(documents=12)
    mixed = effects.assign(pi=np.where(effects["document"] > 5, 0.5, 0.2))
    for question in (contrast, expert_harm):
        with pytest.raises(InputError, match=r"\(column pi\) of these effects are 0.2, 0.5"):
            question(mixed, metrics)
    with pytest.raises(InputError, match="nan"):
        harm_by_expert(effects.assign(pi=np.nan))
    quick = {"n_boot": 50, "n_flips": 99, "n_shuffles": 49}
    one, plain = (contrast(e, metrics, **quick) for e in (effects.assign(pi=0.2), effects))
    pd.testing.assert_frame_equal(one, plain)
