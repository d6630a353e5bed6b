"""The benchmarks of few documents and of crossed limits: their laws are what they say."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from scipy import stats

from moeaudit.stats.sizes.moments import d_z, moments, weighted


@pytest.fixture
def few():
    return importlib.import_module("benchmarks.validity.few")


@pytest.fixture
def crossed():
    return importlib.import_module("benchmarks.validity.crossed")


def test_every_law_has_a_mean_of_zero_and_a_deviation_of_about_one(few):
    for law in few.LAWS:
        drawn = [few.draw(law, np.random.default_rng(seed), 400)[0] for seed in range(6)]
        x = np.concatenate(drawn)
        assert abs(x.mean()) < 0.03, law
        assert 0.6 < x.std() < 1.5, law
        if law == "sparse":
            assert stats.skew(x).mean() == pytest.approx(-15, abs=6)
            assert (np.abs(x - np.median(x)) > 1e-9).mean() == pytest.approx(0.05, abs=0.005)
        if law == "skewed":
            assert 3 < stats.skew(x).mean() < 9


def test_linked_effects_fall_with_length_and_one_domain_carries_all(few):
    x, n = few.draw("linked", np.random.default_rng(0), 400)
    means = np.bincount(np.repeat(np.arange(400), n), x.mean(axis=1)) / n
    assert stats.spearmanr(n, means).statistic < -0.5
    x, n = few.draw("one domain", np.random.default_rng(0), 80)
    square = np.bincount(np.repeat(np.arange(80), n), (x**2).mean(axis=1))
    assert square[::8].sum() > 0.9 * square.sum()


def test_an_audit_is_reduced_and_moved_as_the_package_does(few):
    x, n = few.draw("nice", np.random.default_rng(1), 14)
    audit = few.Audit.of(x, n)
    document = np.repeat(np.arange(14), n)
    for effect in (0.0, 0.1):
        own = [moments(document, c + effect, np.zeros(len(c))) for c in x.T]
        want = [d_z(weighted(m))[0] for m in own]
        assert [e for e, _, _ in audit.moved(effect).cells()] == pytest.approx(want, abs=1e-10)


def test_rows_say_what_is_withheld_and_the_commands_print_tables(few, crossed, monkeypatch, capsys):
    nice = few.measured("nice", 30, 20, 3, 0)
    sparse = few.measured("sparse", 30, 20, 3, 0)
    assert nice["withheld"] < 0.4 and sparse["withheld"] > 0.9 and sparse["claims"] == 0
    assert set(nice) == {*few.NAMES, *few.AT_BOUND}
    monkeypatch.setattr(crossed, "EXPERTS", (8,))
    monkeypatch.setattr("sys.argv", ["crossed", "--audits", "3", "--documents", "12"])
    crossed.main()
    crossed_lines = len(capsys.readouterr().out.splitlines())
    monkeypatch.setattr("sys.argv", ["crossed", "--audits", "2", "--documents", "12", "--bound"])
    crossed.main()
    monkeypatch.setattr("sys.argv", ["few", "--audits", "3", "--documents", "4", "--law", "nice"])
    few.main()
    lines = capsys.readouterr().out.splitlines()
    assert crossed_lines == 2 + len(crossed.LAWS)
    assert len(lines) == 2 + len(crossed.LAWS) - 1 + 3 and "nan" not in "".join(lines)


@pytest.mark.parametrize("heavy", [False, True])
def test_the_known_effect_is_the_mean_of_what_audits_estimate(crossed, heavy):
    law = crossed.Law(0.3, 0.1, heavy=heavy)
    found = []
    for seed in range(200):
        d, document, pair = law.draw(np.random.default_rng(seed), 32, 10, 20)
        assert (pair[:, 0] != pair[:, 1]).all()
        found.append(d.mean() / d.std())
    assert law.truth() == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(200) + 0.01)
    assert crossed.Law(0.0, 0.1, heavy=heavy).truth() == 0


def test_a_bound_that_all_layers_lie_on_is_passed_more_often_without_the_experts(crossed):
    law = crossed.Law(0.3, 0.3, 0.1)
    single, holm, alone = crossed.on_the_bound(law, 16, 12, 30, law.truth())
    assert holm <= single < alone and holm <= 0.2 and alone > 0.5
    far = crossed.on_the_bound(law, 16, 12, 5, 3 * law.truth())
    assert far == (0.0, 0.0, 0.0)
