"""Signs of prunability against sums by hand; the forecast recovers what was planted and claims nothing of noise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made import forecasts, tiny_moe
from made.architectures import BY_NAME

import moeaudit as ma
from moeaudit.cli.terminal.document import plain
from moeaudit.errors import InputError
from moeaudit.pruning.forecast import SIGNS, Known, forecast, signs_of
from moeaudit.pruning.forecast.fit import (
    fitted,
    fragile,
    left_out,
    means,
    ridge,
    spread,
    trust,
    weights,
)
from moeaudit.pruning.forecast.forecast import of_signs
from moeaudit.pruning.forecast.known import record_of
from moeaudit.pruning.forecast.signs import gini

DOCS = [tiny_moe.ids(9 + n % 3, seed=n) for n in range(8)]
COLUMNS = ["a", "b", "c"]


def table(effect: float, seed: int, recipes: int = 10, seeds: int = 3) -> pd.DataFrame:
    """Models whose loss is exp(effect * a + noise of the recipe and of the seed)."""
    rng = np.random.default_rng(seed)
    name = np.repeat([f"r{i}" for i in range(recipes)], seeds)
    x = np.repeat(rng.normal(size=(recipes, 3)), seeds, 0) + 0.2 * rng.normal(size=(len(name), 3))
    noise = np.repeat(rng.normal(size=recipes) * 0.3, seeds) + 0.1 * rng.normal(size=len(name))
    frame = pd.DataFrame(x, columns=COLUMNS)
    return frame.assign(recipe=name, lost_25=np.exp(effect * x[:, 0] + noise - 2))


@pytest.fixture(scope="module")
def model():
    return ma.load(BY_NAME["olmoe"].build())


@pytest.fixture(scope="module")
def signs(model):
    return signs_of(model, DOCS)


def test_signs_are_what_a_plain_census_says(model, signs):
    effects: Any = pd.DataFrame(ma.ablate(model, DOCS))
    assert list(signs.values) == list(SIGNS) and all(
        value is not None or name in signs.reasons for name, value in signs.values.items()
    )
    assert signs.values["harm"] == pytest.approx(effects["delta_nll"].mean(), rel=1e-4, abs=1e-8)
    tokens = len(effects[["document", "position"]].drop_duplicates())
    assert signs.tokens == tokens
    cheap = 0.0
    for layer in model.anatomy.layers:
        mine = effects[effects["layer"] == layer.index].groupby("expert")["delta_nll"].sum()
        totals = sorted(mine.reindex(range(layer.num_experts), fill_value=0.0))
        cheap += sum(totals[: layer.num_experts // 2])
    assert signs.values["additive_50"] == pytest.approx(cheap / tokens, rel=1e-4, abs=1e-8)
    assert signs.values["entropy"] is not None and 0 < signs.values["entropy"] <= 1
    assert signs.values["separation"] is not None and signs.values["separation"] >= 1 - 1e-9


def test_gini_of_known_tables():
    assert gini(np.ones(5)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 1.0])) == pytest.approx(0.75)
    assert gini(np.zeros(3)) == 0


def test_signs_refuse_what_they_cannot_say(model):
    with pytest.raises(InputError, match="8 or more are needed"):
        signs_of(model, DOCS[:7])
    one = ma.load(tiny_moe.build("olmoe", num_experts_per_tok=1))
    with pytest.raises(InputError, match="one active expert"):
        signs_of(one, DOCS)


def test_each_recipe_counts_once():
    recipe = np.array(["a", "a", "b"])
    assert weights(recipe).tolist() == [0.5, 0.5, 1.0]
    assert means(np.array([1.0, 3.0, 7.0]), recipe).tolist() == [2.0, 7.0]


def test_a_planted_slope_is_recovered_and_no_sign_gives_the_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = 2 * x[:, 1] - 1
    found = ridge(x, y, np.ones(60), 1e-6)
    assert found.slopes / found.scale == pytest.approx([0, 2, 0], abs=1e-4)
    recipe = np.repeat(list("abcdef"), 10)
    assert fitted(x[:, :0], y, recipe)(x[:, :0]) == pytest.approx(y.mean())


def test_a_recipe_is_never_forecast_from_its_own_seeds():
    base = table(1.0, seed=1)
    changed = base.copy()
    mine = changed["recipe"] == "r3"
    changed.loc[mine, "lost_25"] *= 100
    one, two = (left_out(t, "lost_25", COLUMNS) for t in (base, changed))
    of_it = (one["recipe"] == "r3").to_numpy()
    for column in ("predicted", "low", "high"):
        assert np.allclose(one[column][of_it], two[column][of_it])
    assert not np.allclose(one["predicted"][~of_it], two["predicted"][~of_it])


def test_a_planted_sign_is_worth_something_and_noise_is_not():
    claims, covered = [], []
    for seed in range(12):
        noise = table(0.0, seed)
        told = trust(left_out(noise, "lost_25", COLUMNS), left_out(noise, "lost_25", []))
        claims.append(told["gain_low"] > 0)
        covered.append(told["covered"])
    assert sum(claims) <= 1 and np.mean(covered) > 0.7
    planted = table(1.5, seed=3)
    told = trust(left_out(planted, "lost_25", COLUMNS), left_out(planted, "lost_25", []))
    assert told["gain_low"] > 0 and told["factor"] < told["baseline"]


def test_where_every_model_loses_the_same_no_gain_is_told():
    flat = table(1.0, seed=4).assign(lost_25=0.0)
    told = trust(left_out(flat, "lost_25", COLUMNS), left_out(flat, "lost_25", []))
    assert np.isnan([told["factor"], told["baseline"], told["gain"], told["gain_low"]]).all()
    assert not told["gain_low"] > 0 and told["recipes"] == 10


def test_limits_hold_the_asked_share_of_recipes():
    rows = table(0.0, seed=5)
    x, y, recipe = rows[[]].to_numpy(float), np.log(rows["lost_25"].to_numpy()), rows["recipe"]
    narrow, wide = (spread(x, y, recipe.to_numpy(str), level) for level in (0.5, 0.9))
    assert 0 < narrow < wide


def test_few_recipes_and_missing_numbers_are_refused():
    with pytest.raises(InputError, match="models of 4 recipes; 5 or more"):
        left_out(table(1.0, 0, recipes=4), "lost_25", COLUMNS)
    holed = table(1.0, 0)
    holed.loc[2, "b"] = np.nan
    with pytest.raises(InputError, match="lost_25 has no number for 1 of the models"):
        left_out(holed.assign(lost_25=[np.nan, *holed["lost_25"][1:]]), "lost_25", ["a"])
    with pytest.raises(InputError, match="The sign b has no number for 1 of the models"):
        left_out(holed, "lost_25", COLUMNS)


def test_a_forecast_says_what_lies_outside_and_how_far_it_can_be_trusted(model, signs):
    rng = np.random.default_rng(2)
    known = table(1.0, seed=2)
    for name in SIGNS:
        known[name] = rng.normal(size=len(known))
    known["lost_50"] = 2 * known["lost_25"]
    known["harm"] += 50.0  # no model of the table is like this one
    found = of_signs(signs, known)
    assert list(found.table["keep"]) == [0.75, 0.5]
    assert (found.table["low"] < found.table["lost"]).all()
    assert "harm" in found.table["outside"][0] and not found.table["trusted"].any()
    assert "extrapolation" in repr(found) and "knows no more than the mean" in repr(found)
    flat = of_signs(signs, known.assign(lost_25=0.01, lost_50=0.02))
    said = " ".join(flat.sentences())
    assert said.count("lost the same") == 2 and "nan" not in repr(flat)
    assert flat.headline.startswith("Nothing is forecast for")
    with pytest.raises(InputError, match="lacks lost_50"):
        forecast(model, DOCS, table=known.drop(columns="lost_50"))
    with pytest.raises(InputError, match="given a str as its model; load it first"):
        forecast("tiny-olmoe", DOCS, table=known)


def test_the_mean_stands_beside_the_forecast_and_a_planted_sign_is_trusted(signs):
    known = forecasts.table(effect=1.5, seed=1, recipes=16)
    value = float(known["harm"].median())
    mine = replace(
        signs, values={**{n: float(known[n].median()) for n in SIGNS}, "harm": value + 0.5}
    )
    found = of_signs(mine, known, parameters=7_000_000_000)
    row = found.table.iloc[1]
    assert row["trusted"] and not row["outside"] and row["gain_low"] > 0
    assert row["lost"] > row["mean"] and row["mean_low"] < row["mean"] < row["mean_high"]
    logs = np.log(known["lost_50"]).groupby(known["recipe"]).mean()
    assert row["mean"] == pytest.approx(np.exp(logs.mean()))  # what needs no census
    assert "It knows more than the mean" in repr(found) and "knows no more" not in repr(found)
    assert "1.25 million parameters, this one 7 billion" in repr(found)
    least = {"recipe": "recipe 3", "gain": 0.1, "gain_low": -0.2, "gain_high": 0.4}
    about = record_of(b"", without={"lost_50": least})
    rests = of_signs(mine, Known(known, "made", about))
    assert rests.table["rests_on"].tolist() == ["", "recipe 3"]
    assert not rests.table["trusted"][1] and rests.table["trusted"][0]
    assert "without recipe 3 the error is smaller by 10% (\N{MINUS SIGN}20% to 40%)" in repr(rests)
    assert rests.headline.endswith("rests on one recipe, recipe 3")
    noise = of_signs(mine, forecasts.table(effect=0.0, seed=1))
    assert not noise.table["trusted"].any() and noise.headline.endswith("of other models")


def test_a_gain_that_one_recipe_makes_is_found_without_a_record(signs):
    known = forecasts.table(effect=0.0, seed=3, recipes=12)
    first = known["recipe"] == "recipe 0"
    near = known["recipe"] == "recipe 1"
    known.loc[first | near, "harm"] += (
        12.0  # two that lose a hundred times as much, told by one sign
    )
    known.loc[first | near, ["lost_25", "lost_50"]] *= 100.0
    told = fragile(known, "lost_50", ["harm"])
    assert told["recipe"] in ("recipe 0", "recipe 1") and not told["gain_low"] > 0
    few = known[known["recipe"].isin([f"recipe {i}" for i in range(5)])]
    assert fragile(few, "lost_50", ["harm"])["gain_low"] is None
    planted = Known(forecasts.table(effect=1.5, seed=1, recipes=12), "made", {})
    assert planted.rests_on("lost_50", ["harm"]) is None
    assert Known(known, "made", {}).rests_on("lost_50", ["harm"]) == told


def test_what_was_not_used_and_other_amounts_of_text_are_said(signs):
    made = forecasts.table()
    without = made.assign(substitution=[np.nan, *made["substitution"][1:]])
    values = dict.fromkeys(SIGNS, 0.1) | {"entropy": None}
    mine = replace(signs, values=values, reasons={"entropy": "no reason"}, notes=("one repeated",))
    about = record_of(b"", documents={"signs": 16}, tokens={"signs": 48}, quick=True)
    found = of_signs(mine, Known(without, "made", about))
    said = " ".join(found.notes)
    assert "entropy was not used: no reason." in said and "one repeated" in said
    assert "substitution was not used: 1 of the table's 30 models have none." in said
    assert "on 8 documents" in said and "on 16 with up to 752" in said and "means nothing" in said
    assert set(found.ranges.loc[~found.ranges["used"], "sign"]) == {"entropy", "substitution"}
    assert (found.table["signs"] == len(SIGNS) - 2).all()
    assert json.dumps(plain(found.to_dict()), allow_nan=False)
