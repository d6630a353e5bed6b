"""The benchmarks of dealt metrics: what they reduce is what the package computes of the dealt table."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from made.census import QUICK, census

from moeaudit.stats import contrast, expert_harm, regression

NAMES = ("dealt", "shuffled", "shuffled_ranks", "shuffled_slopes")


@pytest.fixture(scope="module")
def rooms():
    return {name: importlib.import_module(f"benchmarks.validity.{name}") for name in NAMES}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with what a finished audit leaves: effects that go with one metric."""
    folder = tmp_path_factory.mktemp("run")
    effects, metrics = census(documents=24, tokens=12, slope=0.15)
    (folder / "effects").mkdir()
    effects.to_parquet(folder / "effects" / "0.parquet")
    metrics.to_parquet(folder / "experts.parquet")
    return folder


def test_the_deals_are_the_contrasts_of_the_dealt_metrics(rooms, run):
    dealt = rooms["dealt"].Dealt(run, "delta_nll", 5, 1)
    for i in (0, 3):
        table = contrast(dealt.effects, dealt.table(i), controls=("random",), **QUICK)
        want = table[table.role == "metric"].set_index(["metric", "layer"])["d_z"]
        keys = [(name, y.slots.layer) for y in dealt.layers for name in dealt.names]
        assert [x.statistic[i] for x in dealt.contrasts] == pytest.approx([want[k] for k in keys])
        for (document, difference, _), x in zip(dealt.cells(i), dealt.contrasts):
            assert difference.mean() / difference.std(ddof=1) == pytest.approx(x.statistic[i])
            assert len(document) == len(difference)
    held = dealt.held(dealt.contrasts, 4)
    assert [x.statistic[0] for x in held] == [x.statistic[4] for x in dealt.contrasts]
    assert {len(x.statistic) for x in held} == {1 + rooms["dealt"].NULL}


def test_p_over_documents_of_a_slope_is_that_of_the_regression(rooms, run):
    dealt = rooms["dealt"].Dealt(run, "delta_nll", 2, 1)
    slots = [y.slots for y in dealt.layers]
    table = regression(
        dealt.effects,
        dealt.table(1),
        models=("cluster", "within_token"),
        controls=("random",),
        **QUICK,
    )
    for model in ("cluster", "within_token"):
        for m, name in enumerate(dealt.names):
            scores = [y.given(m, 1)[y.place] for y in dealt.layers]
            row = table[(table.metric == name) & (table.model == model)].iloc[0]
            assert rooms["shuffled_slopes"].p_documents(slots, scores, model) == pytest.approx(
                row["p"]
            )


def test_ranks_of_the_dealt_metrics_are_those_of_expert_harm(rooms, run):
    ranks = rooms["shuffled_ranks"]
    dealt = rooms["dealt"].Dealt(run, "delta_nll", 3, 1)
    cells = ranks.ranked(dealt, 0)
    for i in (0, 2):
        table = expert_harm(dealt.effects, dealt.table(i), controls=("random",), n_flips=200)
        want = table[table.role == "metric"].set_index(["metric", "layer"])
        keys = [(name, y.slots.layer) for y in dealt.layers for name in dealt.names]
        rho = np.array([c.rho(i) for c in cells])
        assert rho == pytest.approx([want.loc[k, "rho"] for k in keys])
        p = np.array([want.loc[k, "p_maxt"] for k in keys], dtype=float)
        words = ranks.verdicts(cells, rho, p, i)[0.3]
        assert list(words) == [want.loc[k, "verdict"] for k in keys]
        near = ranks.experts_p(cells, rho, 0)
        assert near == pytest.approx(p, abs=0.12)


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_commands_print_shares(rooms, run, name, monkeypatch, capsys):
    monkeypatch.setattr(rooms["shuffled_ranks"], "DEALS", 99)
    monkeypatch.setattr("sys.argv", [name, str(run), "--audits", "12", "--banks", "1"])
    rooms[name].main()
    out = capsys.readouterr().out
    assert "show a" in out and "nan" not in out
    for line in out.splitlines():
        if "experts show" in line:
            shares = [float(x) for x in line.split("|")[2:-1]]
            assert len(shares) == 2 and all(0 <= x < 0.6 for x in shares)
