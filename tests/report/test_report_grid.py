"""What the slider reads is what the statistics say at each bound; tables hold their numbers in full."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.report.figures.parts.grid import over_grid
from moeaudit.report.pages.tables import Column, number, table
from moeaudit.report.plot.verdict_points import beyond, calm
from moeaudit.stats import verdicts_at, verdicts_over


def test_the_grid_counts_what_the_statistics_count(run):
    grid = over_grid(run.tests, run.spec.sesoi)
    ours = grid.counts().set_index(["outcome", "sesoi"])
    theirs = verdicts_over(run.tests).set_index(["outcome", "sesoi"])
    for key, row in theirs.iterrows():
        for verdict in [c for c in theirs if c not in ("unit", "d_z", "cells")]:
            assert int(ours.loc[key].get(verdict, 0)) == int(row[verdict]), (key, verdict)
        assert ours.loc[key]["d_z"] == row["d_z"]
    assert int(ours["declared"].sum()) == 2


def test_its_letters_are_the_verdicts_of_every_contrast(run):
    grid = over_grid(run.tests, run.spec.sesoi)
    words = sorted({w for held in grid.held for w in held.verdicts if w})
    data = grid.data(words)
    at = next(each for each in data["grid"] if each["words"] == "0.05 nats")
    expected = verdicts_at(run.tests, "0.05nats")["verdict"].tolist()
    assert [words[ord(letter) - 97] for letter in at["cells"]] == expected
    assert len(data["rows"]) == len(expected)


def test_an_outcome_without_such_a_unit_has_no_verdict_there(run):
    tests = run.tests.copy()
    tests.attrs = run.tests.attrs
    grid = over_grid(tests, "0.1")
    flip = over_grid(tests[tests["outcome"] == "kl"], "0.1")
    assert [h.bound for h in grid.held] == [h.bound for h in flip.held]
    assert set(flip.rows["outcome"]) == {"kl"}


def test_one_wild_cell_does_not_set_the_axis():
    d_z = np.linspace(-0.1, 0.2, 24)
    part = pd.DataFrame({"d_z": d_z, "low": d_z - 0.05, "high": d_z + 0.05})
    usual = calm(part)
    assert beyond(part) == 0 and usual[0] < -0.14 and usual[1] > 0.24
    wild = pd.concat(
        [part, pd.DataFrame({"d_z": [-0.7], "low": [-6.5], "high": [5.0]})], ignore_index=True
    )
    low, high = calm(wild)
    assert low > -1.0 and high < 1.0
    assert beyond(wild) == 1


def test_a_table_holds_numbers_in_full_and_gaps_as_nothing():
    rows = [
        {"a": "x", "m": 1 / 3, "m_low": 0.1, "m_high": 0.5},
        {"a": "y", "m": np.nan, "m_low": None, "m_high": None},
    ]
    columns = [
        Column("a", lambda r: r["a"], text=True),
        number("m", lambda r: f"{r['m']:.1f}", "m", limits=True),
    ]
    made = table(rows, columns, "t")
    assert '<td class="n" data-value="0.333333333" data-low="0.1" data-high="0.5">0.3</td>' in made
    assert '<td class="n" data-value="" data-low="" data-high="">' in made
