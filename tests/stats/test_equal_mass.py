"""Removed sets against sets of equal routed mass: by hand, and where mass alone explains everything."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from moeaudit.errors import InputError
from moeaudit.seeds import generator
from moeaudit.stats import equal_mass
from moeaudit.stats.families.maxt import unbiased_skewness
from moeaudit.stats.sets import mass
from moeaudit.stats.sets.removed import by_layer, removed_sets


def table(effect, documents=20, tokens=12, top_k=4, experts=10, seed=0):
    """Sets of one and of two of a token's experts; `effect(weights, experts, rng)` of a set."""
    rng = np.random.default_rng(seed)
    rows = []
    for document, position in itertools.product(range(documents), range(tokens)):
        expert = rng.permutation(experts)[:top_k]
        weight = np.sort(rng.dirichlet(np.full(top_k, 8.0)))[::-1]
        for size in (1, 2):
            for ranks in itertools.combinations(range(top_k), size):
                here = list(ranks)
                mask = sum(1 << r for r in ranks)
                value = effect(weight[here], expert[here], rng)
                own = (ranks[0], int(expert[ranks[0]]), weight[ranks[0]])
                rows.append((document, position, 3, *own, mask, value))
    names = ["document", "position", "layer", "rank", "expert", "weight", "members", "delta_nll"]
    return pd.DataFrame(rows, columns=names)


METRICS = pd.DataFrame(
    [(3, e, "number", float(e)) for e in range(10)], columns=["layer", "expert", "metric", "value"]
)


def test_the_chosen_set_and_the_control_of_a_token_by_hand():
    effects = table(lambda w, e, rng: float(sum(10.0**x for x in e)), documents=30, tokens=1)
    found = equal_mass(effects, METRICS, within=0.3).iloc[0]
    want, dropped = {"difference": [], "mass": []}, 0
    for _, token in effects.groupby("document"):
        alone = token[token["members"].isin([1, 2, 4, 8])]
        weight = dict(zip(alone["expert"], alone["weight"]))
        top = sorted(weight)[-2:]
        mass = weight[top[0]] + weight[top[1]]
        others = [
            sum(10.0**x for x in pair)
            for pair in itertools.combinations(weight, 2)
            if set(pair) != set(top) and abs(sum(weight[x] for x in pair) - mass) <= 0.3 * mass
        ]
        dropped += not others
        if others:
            want["mass"].append(mass)
            high = sum(10.0**x for x in top)
            want["difference"].append((high - max(others), high - min(others)))
    low, high = np.mean(want["difference"], axis=0)
    assert low <= found["difference"] <= high
    assert found["mass"] == pytest.approx(np.mean(want["mass"]))
    assert (found["n"], found["n_dropped"]) == (30 - dropped, dropped)


def test_what_mass_alone_explains_is_no_effect_and_what_experts_do_is():
    given = {"size": 2, "within": 0.05}
    by_mass = table(lambda w, e, rng: 5 * w.sum() + 0.05 * rng.normal())
    row = equal_mass(by_mass, METRICS, **given).iloc[0]
    assert row["mass"] == pytest.approx(row["mass_control"], rel=0.05)
    assert row["p"] > 0.01 and row["d_z_low"] < 0.3
    by_expert = table(lambda w, e, rng: 0.1 * e.sum() + 0.05 * rng.normal())
    row = equal_mass(by_expert, METRICS, **given).iloc[0]
    assert row["p"] < 0.001 and row["d_z_low"] > 1
    assert row["n"] + row["n_dropped"] == 240 and row["n_documents"] == 20


def test_one_expert_has_a_control_too_and_ties_and_gaps_are_dropped():
    effects = table(lambda w, e, rng: rng.normal(), documents=15)
    assert equal_mass(effects, METRICS, size=1, within=0.5).iloc[0]["size"] == 1
    tied = METRICS.assign(value=1.0)
    row = equal_mass(effects, tied).iloc[0]
    assert row["n"] == 0 and row["n_dropped"] == 180
    assert "nearly the same routed mass" in row["reason"] and pd.isna(row["p"])
    lone = equal_mass(effects[effects["document"] == 0], METRICS, within=0.5).iloc[0]
    assert pd.isna(lone["p"]) and "documents" in lone["reason"] and not pd.isna(lone["difference"])


def test_refusals_say_what_to_do():
    effects = table(lambda w, e, rng: 0.0, documents=2, tokens=2)
    with pytest.raises(InputError, match="leaves no other set"):
        equal_mass(effects, METRICS, size=4)
    with pytest.raises(InputError, match=r"Coalitions\(\(1, 3\)\)"):
        equal_mass(effects, METRICS, size=3)
    with pytest.raises(InputError, match="within"):
        equal_mass(effects, METRICS, within=0)


def test_a_table_of_single_experts_serves_for_sets_of_one():
    effects = table(lambda w, e, rng: 0.1 * e.sum() + 0.3 * rng.normal())
    alone = effects[effects["members"].isin([1, 2, 4, 8])]
    got = equal_mass(alone.drop(columns="members"), METRICS, size=1, within=0.3)
    pd.testing.assert_frame_equal(got, equal_mass(effects, METRICS, size=1, within=0.3))
    with pytest.raises(InputError, match="members"):
        equal_mass(alone.drop(columns="members"), METRICS)


def test_words_are_of_these_experts_by_a_corrected_p():
    effects = table(lambda w, e, rng: 0.1 * e.sum() + 0.3 * rng.normal())
    noise = METRICS.assign(metric="noise", value=np.random.default_rng(5).random(10))
    both = pd.concat([METRICS, noise])
    found = equal_mass(effects, both, within=0.2).set_index("metric")
    p = found.loc[["number", "noise"], "p"].sort_values()
    assert found.loc[p.index[0], "p_holm"] == pytest.approx(2 * p.iloc[0])
    assert found.loc["random_score", "p_holm"] == found.loc["random_score", "p"]
    assert list(found["role"]) == ["metric", "metric", "control"]
    number = found.loc["number"]
    assert number["verdict_these_experts"] == "present, size open"
    assert number["supports"] == "these experts"
    few = equal_mass(effects[effects["document"] < 11], METRICS, within=0.2).iloc[0]
    assert few["verdict_these_experts"] == "too few documents to say" and pd.isna(few["supports"])
    assert few["too_few"] == "11 documents, and a verdict needs 12"


def test_p_is_the_sign_flips_of_the_documents():
    effects = table(lambda w, e, rng: 0.01 * e.sum() + rng.normal(), documents=13, tokens=4)
    found = equal_mass(effects, METRICS, within=0.5).iloc[0]
    # The difference of a token is the set's less its control's, which is drawn: rebuilt with the same seed.
    sums = document_sums_of(effects, within=0.5)
    assert found["difference"] == pytest.approx(sums.sum() / found["n"])
    signs = np.array(list(itertools.product((1, -1), repeat=13)))
    m, s = (signs * sums).mean(1), np.sqrt((sums**2).mean() - (signs * sums).mean(1) ** 2)
    g = unbiased_skewness((((signs * sums) - m[:, None]) ** 3).mean(1) / s**3, 13)
    t = m / s
    z = np.abs(t + g * t**2 / 3 + g**2 * t**3 / 27 + g / (6 * 13))
    assert found["p"] == pytest.approx((z >= z[0] * (1 - 1e-9)).mean())


def document_sums_of(effects, within):
    """Sums by document of the pairs that `equal_mass` makes with seed 0."""
    (sets,) = by_layer(removed_sets(effects, "delta_nll"), "delta_nll")
    masks = [m for m in range(1, 16) if bin(m).count("1") == 2]
    gate = mass._gate(removed_sets(effects, "delta_nll"), sets)
    tie = generator(0, "equal mass", 3).random((len(gate), len(masks)))
    chosen, control = mass._choose(sets.expert.astype(float), gate, masks, within, tie)
    value = np.stack([sets.of(m) for m in masks], axis=1)
    use = np.flatnonzero(control >= 0)
    document = sets.tokens["document"].to_numpy()[use]
    return np.bincount(document, value[use, chosen[use]] - value[use, control[use]], minlength=13)


def test_one_document_with_a_difference_is_no_test():
    effects = table(lambda w, e, rng: rng.normal(), documents=12, tokens=3)
    effects.loc[effects["document"] > 0, "delta_nll"] = 0.0
    row = equal_mass(effects, METRICS, within=0.9).iloc[0]
    assert row["reason"] == "1 documents differ; sign-flips need 2" and pd.isna(row["p"])
