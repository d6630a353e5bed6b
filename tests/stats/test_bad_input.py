"""What cannot be answered: a clear refusal or a reason in the table, for every question alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census, unexplained

from moeaudit.errors import InputError
from moeaudit.stats import (
    adjust,
    association,
    contrast,
    expert_harm,
    max_t,
    pooled,
    regression,
    sign_flip_p,
)

EXPLAIN = ("reason", "caution", "no_plan")


def ask(question, effects, metrics, **options):
    if question is regression:
        return regression(effects, metrics, models=("cluster", "within_token"), **options)
    return question(effects, metrics, **(QUICK | options))


def no_null_unexplained(table):
    told = table[[c for c in EXPLAIN if c in table]].notna().any(axis=1)
    assert not unexplained(table[~told].drop(columns="no_plan", errors="ignore"))
    numbers = table.select_dtypes("number")
    assert all(np.isfinite(numbers[c].dropna().to_numpy(float)).all() for c in numbers)


QUESTIONS = (contrast, expert_harm, pooled, regression)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("delta_nll", np.nan, "NaN or infinite"),
        ("delta_nll", np.inf, "NaN or infinite"),
        ("expert", np.nan, "column expert of the effects holds 1 value"),
        ("expert", -1.0, "whole numbers from 0 on"),
        ("rank", 0.5, "column rank of the effects"),
        ("document", np.nan, "name no document"),
    ],
)
def test_effects_with_holes_are_refused(question, column, value, message):
    effects, metrics = census(documents=5, tokens=3)
    effects[column] = effects[column].astype(float)
    effects.loc[7, column] = value
    with pytest.raises(InputError, match=message):
        ask(question, effects, metrics)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controls": ()}, "No control"),
        ({"sesoi": 0}, "SESOI"),
        ({"sesoi": -0.1}, "SESOI"),
        ({"n_flips": 0}, "n_flips is 0"),
        ({"n_boot": 1}, "n_boot is 1"),
        ({"n_folds": 1}, "n_folds is 1"),
    ],
)
def test_settings_that_decide_nothing_are_refused(question, options, message):
    effects, metrics = census(documents=5, tokens=3)
    with pytest.raises(InputError, match=message):
        ask(question, effects, metrics, **options)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("what", ["metric", "effects", "ties", "nearly one document", "top 1"])
def test_nothing_to_compare_is_said_and_counted(question, what):
    effects, metrics = census(documents=6, tokens=4, top_k=1 if what == "top 1" else 3)
    if what == "metric":
        metrics = metrics.assign(value=1.0)
    elif what == "effects":
        effects = effects.assign(delta_nll=0.0)
    elif what == "ties":  # two values only: almost every rank is tied
        effects = effects.assign(delta_nll=np.sign(effects.delta_nll))
    elif what == "nearly one document":  # the others have one token of one expert each
        alone = (effects.position == 0) & (effects["rank"] == 0)
        effects = effects[(effects.document == 0) | alone]
    table = ask(question, effects, metrics)
    no_null_unexplained(table)
    if what in ("metric", "effects"):
        mine = table[table.role == "metric"]
        assert mine.reason.notna().all()
        if question is contrast and what == "metric":
            assert (mine.n_dropped == 24).all() and (mine.n == 0).all()
    if what == "nearly one document" and question is contrast:
        # The oracle has no other document to score experts by, and says that.
        assert table.reason.str.contains("2 documents|two active experts").all()
    if what == "top 1" and question is contrast:
        assert table[table.role == "metric"].reason.str.contains("two active experts").all()


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_metric_without_any_value_keeps_its_rows(question):
    effects, metrics = census(documents=6)
    empty = metrics[metrics.metric == "id"].assign(metric="empty", value=np.nan)
    table = ask(question, effects, pd.concat([metrics, empty]))
    rows = table[table.metric == "empty"]
    assert len(rows) == len(table[table.metric == "id"]) and rows.reason.notna().all()
    no_null_unexplained(table)


def test_the_gate_weight_must_be_a_number_where_it_is_used():
    effects, metrics = census(documents=5)
    effects.loc[3, "weight"] = np.nan
    with pytest.raises(InputError, match="column weight"):
        ask(expert_harm, effects, metrics)
    assert len(ask(expert_harm, effects, metrics, controls=("random",)))


def test_single_tests_refuse_what_they_cannot_answer():
    with pytest.raises(InputError, match="of 1 sums 1 differ"):
        sign_flip_p(np.array([1.0]))
    with pytest.raises(InputError, match="of 5 sums 0 differ"):
        sign_flip_p(np.zeros(5))
    with pytest.raises(InputError, match="document sums holds 10"):
        max_t(np.full((5, 2), np.nan))
    with pytest.raises(InputError, match="outside 0 to 1"):
        adjust(np.array([0.1, 1.5]), "holm")


@pytest.mark.parametrize("interval", ["percentile", "bca", "jackknife", "token"])
def test_a_correlation_has_both_limits_or_a_reason(interval):
    x, once = np.arange(8.0), np.r_[np.zeros(7), 1.0]
    pairs = ((x, x), (x, once), (x[:2], x[:2]), (x, x**2 % 5), (np.ones(8), x))
    for a, b in pairs:
        for document in (None, np.repeat([0, 1], 4)[: len(a)], np.zeros(len(a), dtype=int)):
            for name in ("spearman", "kendall"):
                got = association(name, a, b, document, interval=interval, n_boot=40)
                assert (got.reason is None) == bool(np.isfinite([got.low, got.high]).all())
    with pytest.raises(InputError, match="8 x, 8 y, 3 documents"):
        association("spearman", x, x, np.arange(3), interval=interval)
