"""Metrics against values worked out by hand, and against a slow implementation of each formula."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made import routing_tables as tables
from made import tiny_moe

from moeaudit.errors import InputError
from moeaudit.observe import METRICS, Trace, capture, expert_metrics

NAN = float("nan")
# Expert 0: weights .5 .3 .1 .4, norms 2 3 4 1; expert 1: weights .25 .6 .4, norms 4 1 3;
# expert 2: weight .7, norm 5; expert 3 is never chosen. Changes .1 .2 -.1 .4 by token.
BY_HAND = {
    "utilisation": [1.0, 0.75, 0.25, 0.0],
    "mean_weight": [1.3 / 4, 1.25 / 3, 0.7, NAN],
    "activation_norm": [2.5, 8 / 3, 5.0, NAN],
    "activation_sd": [math.sqrt(5 / 3), math.sqrt(7 / 3), NAN, NAN],
    "weighted_frequency": [1.3, 1.25, 0.7, 0.0],
    "ean": [10.0, 8.0, 5.0, 0.0],
    "reap": [(1.0 + 0.9 + 0.4 + 0.4) / 4, (1.0 + 0.6 + 1.2) / 3, 3.5, NAN],
    "man": [2.5, 8 / 3, 5.0, NAN],
    "msan": [(4 + 9 + 16 + 1) / 4, (16 + 1 + 9) / 3, 25.0, NAN],
    "easy_ep": [
        1.0 * 0.1 + 0.9 * 0.2 + 0.4 * 0.4,
        1.0 * 0.1 + 0.6 * 0.2 + 1.2 * 0.4,
        0.0,  # the token that turned the other way counts as zero
        0.0,
    ],
    # Slots by domain (a, b): expert 0 (2, 2), expert 1 (2, 1), expert 2 (0, 1); all (4, 4).
    "domain_mi": [
        0.0,
        2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3),
        math.log(2),
        NAN,
    ],
}


@pytest.mark.parametrize("metric", BY_HAND)
def test_values_worked_out_by_hand(metric):
    table = expert_metrics(tables.by_hand(), [metric])
    np.testing.assert_allclose(table["value"], BY_HAND[metric], rtol=1e-12, atol=1e-15)
    assert table["layer"].tolist() == [2] * 4 and table["expert"].tolist() == [0, 1, 2, 3]
    assert table["n_active"].tolist() == [4, 3, 1, 0]
    assert set(table["metric"]) == {metric}


def test_columns_and_all_metrics():
    table = expert_metrics(tables.by_hand())
    assert list(table.columns) == ["layer", "expert", "metric", "value", "n_active"]
    assert table["metric"].unique().tolist() == list(METRICS)
    assert len(table) == 4 * len(METRICS)


def slow(trace, metric):
    """Every metric straight from its formula, one expert at a time, with plain loops."""
    found = {}
    routing = trace.routing.merge(trace.tokens, on=["document", "position"])
    for layer, rows in routing.groupby("layer"):
        tokens = len(rows[["document", "position"]].drop_duplicates())
        for expert in range(trace.facts.num_experts[layer]):
            mine = rows[rows["expert"] == expert]
            found[layer, expert] = slow_value(metric, mine, rows["domain"].tolist(), tokens)
    return found


def slow_value(metric, mine, all_domains, tokens):
    w, f, turn = (mine[name].to_list() for name in ("weight", "output_norm", "change"))
    n = len(mine)
    if metric == "utilisation":
        return n / tokens
    if metric == "weighted_frequency":
        return sum(w)
    if metric == "ean":
        return sum(f)
    if metric == "easy_ep":
        return sum(a * b * max(c, 0) for a, b, c in zip(w, f, turn))
    if n == 0 or (n == 1 and metric == "activation_sd"):
        return NAN
    if metric == "mean_weight":
        return sum(w) / n
    if metric in ("activation_norm", "man"):
        return sum(f) / n
    if metric == "activation_sd":
        return math.sqrt(sum((x - sum(f) / n) ** 2 for x in f) / (n - 1))
    if metric == "reap":
        return sum(a * b for a, b in zip(w, f)) / n
    if metric == "msan":
        return sum(x * x for x in f) / n
    assert metric == "domain_mi"
    domains = mine["domain"].tolist()
    total = 0.0
    for domain in set(domains):
        within, overall = domains.count(domain) / n, all_domains.count(domain) / len(all_domains)
        total += within * math.log(within / overall)
    return total


@pytest.mark.parametrize("metric", BY_HAND)
@pytest.mark.parametrize("source", ["random", "deepseek_v2"])
def test_agrees_with_a_slow_implementation(metric, source):
    if source == "random":
        trace = tables.random_trace()
    else:
        documents = [tiny_moe.ids(9 + seed, seed) for seed in range(5)]
        trace = capture(tiny_moe.load("deepseek_v2"), documents)
        domain = (trace.tokens["document"] % 2).map({0: "even", 1: "odd"})
        trace = Trace.from_frames(trace.tokens.assign(domain=domain), trace.routing, trace.facts)
    expected = slow(trace, metric)
    table = expert_metrics(trace, [metric]).set_index(["layer", "expert"])["value"]
    assert set(table.index) == set(expected)
    np.testing.assert_allclose(
        [table[cell] for cell in expected], list(expected.values()), rtol=1e-6, atol=1e-9
    )


def test_order_of_rows_does_not_matter():
    trace = tables.random_trace()
    ordered = trace.routing.sort_values(["layer", "document", "position", "rank"])
    again = Trace(trace.tokens, ordered.reset_index(drop=True), trace.facts)
    pd.testing.assert_frame_equal(expert_metrics(trace), expert_metrics(again))


def test_one_domain_has_no_information_about_domains():
    trace = tables.by_hand()
    tokens = trace.tokens.assign(domain=pd.Categorical(["a"] * len(trace.tokens)))
    table = expert_metrics(Trace(tokens, trace.routing, trace.facts), ["domain_mi"])
    assert table["value"].isna().all()


def test_missing_change_makes_easy_ep_null():
    trace = tables.by_hand()
    routing = trace.routing.assign(change=np.nan)
    table = expert_metrics(Trace(trace.tokens, routing, trace.facts), ["easy_ep"])
    assert table["value"].isna().tolist() == [True, True, True, False]  # nothing to sum is 0


def test_wrong_input_is_refused():
    trace = tables.by_hand()
    with pytest.raises(InputError, match="'norm'"):
        expert_metrics(trace, ["utilisation", "norm"])
    with pytest.raises(InputError, match="No metric"):
        expert_metrics(trace, [])
    wrong = trace.routing.assign(expert=trace.routing["expert"] + 2)
    with pytest.raises(InputError, match="does not have"):
        expert_metrics(Trace(trace.tokens, wrong, trace.facts))


def test_a_million_rows_take_seconds():
    import time

    rng = np.random.default_rng(0)
    tokens, k, layers, experts = 50_000, 4, 5, 32
    position = np.arange(tokens) % 500
    document = np.arange(tokens) // 500
    frame = pd.DataFrame(
        {
            "document": document,
            "domain": pd.Categorical(np.array(list("abcde"))[document % 5]),
            "position": position,
            "token": rng.integers(0, 2000, tokens),
            "target": rng.integers(0, 2000, tokens),
        }
    ).assign(text="x", nll=1.0, entropy=1.0, confidence=0.5, correct=True)
    chosen = rng.permuted(np.tile(np.arange(experts), (tokens * layers, 1)), axis=1)[:, :k]
    rows = tokens * layers * k
    routing = pd.DataFrame(
        {
            "document": np.tile(np.repeat(document, k), layers),
            "position": np.tile(np.repeat(position, k), layers),
            "layer": np.repeat(np.arange(layers), tokens * k),
            "rank": np.tile(np.arange(k), tokens * layers),
            "expert": chosen.reshape(-1),
            "logit": 0.0,
            "weight": rng.uniform(0, 1, rows),
            "output_norm": rng.gamma(2.0, size=rows),
            "contribution_norm": 1.0,
            "change": 0.1,
        }
    )
    facts = tables.by_hand().facts.__class__(
        "big", 2000, dict.fromkeys(range(layers), experts), dict.fromkeys(range(layers), k), 100
    )
    start = time.process_time()
    table = expert_metrics(Trace(frame, routing, facts))
    assert time.process_time() - start < 20
    mean = table[table["metric"] == "utilisation"]["value"].mean()
    assert mean == pytest.approx(k / experts)
