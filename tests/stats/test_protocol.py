"""Protocols: published layers, sampling with and without its defect, settings that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.errors import InputError
from moeaudit.seeds import generator
from moeaudit.stats import Defects, get_protocol
from moeaudit.stats.contrast.protocol import choose_layers, choose_metrics, choose_tokens

PUBLISHED = get_protocol("engmann2026")


@pytest.mark.parametrize(
    ("layers", "want"),
    [
        (range(16), [0, 4, 7, 11, 15]),
        (range(24), [0, 6, 12, 18, 23]),
        (range(1, 27), [1, 7, 13, 20, 26]),
        (range(3), [0, 1, 2]),
        (range(9), [0, 2, 4, 6, 8]),
    ],
)
def test_published_layers(layers, want):
    assert choose_layers(PUBLISHED, list(layers)) == want
    assert choose_layers(get_protocol("moeaudit"), list(layers)) == list(layers)


def test_positions_are_uniform_unless_texts_are_drawn_first():
    # One text of 900 tokens and nine of 10: short texts hold 9 % of the tokens, 90 % of the texts.
    document = np.repeat(np.arange(10), [900] + [10] * 9)
    shares = []
    for defects in (Defects(), Defects(texts_before_positions=True)):
        protocol = PUBLISHED.with_(defects=defects)
        chosen = [choose_tokens(protocol, document, generator(i, "x")) for i in range(50)]
        assert all(len(c) == len(set(c)) and (np.diff(c) > 0).all() for c in chosen)
        shares.append(np.mean([(document[c] > 0).mean() for c in chosen]))
    assert shares[0] == pytest.approx(0.09, abs=0.02) and shares[1] > 0.5


def test_fewer_tokens_than_asked_are_all_taken():
    assert len(choose_tokens(PUBLISHED, np.zeros(50, dtype=int), generator(0))) == 50


def test_the_recipe_is_the_published_one():
    p = PUBLISHED
    assert (p.positions, p.n_layers, p.seed, p.test, p.decision) == (
        200,
        5,
        42,
        "paired_t",
        "bonferroni",
    )
    assert p.equivalence is None and p.defects.on == () and len(p.metrics) == 4
    names = ["activation_sd", "reap", "utilisation", "activation_norm", "mean_weight"]
    assert choose_metrics(p, names) == [
        "utilisation",
        "activation_norm",
        "mean_weight",
        "activation_sd",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"test": "z"},
        {"decision": "none"},
        {"equivalence": "maxt"},
        {"statistic": "u"},
        {"level": 1.0},
        {"power": 0.0},
        {"sesoi": float("nan")},
        {"unknown": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        get_protocol("moeaudit").with_(**settings)


def test_generators_belong_to_their_labels():
    a, b, c = (generator(3, *labels).random() for labels in (("x", 1), ("x", 2), ("x", 1)))
    assert a == c != b and generator(4, "x", 1).random() != a
