"""What the page packs for exploring: unpacked it is the data of the run, and pruning stands beside it."""

from __future__ import annotations

import base64
import gzip
import json

import pandas as pd

from moeaudit.report.pages.explore import SCRIPTS, explorer, script, with_pruning
from moeaudit.report.words.operator import ZERO
from moeaudit.store.files import write_table

CELLS = {"layer": [0, 0, 1, 1], "expert": [0, 1, 0, 1]}


def gone(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(
        rows, columns=["criterion", "draw", "scope", "depth", "keep", "layer", "expert"]
    )


def test_what_is_packed_is_what_is_unpacked_and_nothing_can_end_its_element():
    data = {"absent": None, "model": "</script><b>", "cells": CELLS, "pruning": None}
    packed = explorer(data, ZERO).packed
    assert packed is not None and "<" not in packed
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert found.pop("said") == {"one": "removal", "many": "removals", "removes": True}
    assert found == data
    assert explorer(data, ZERO).packed == packed  # no time of day in it


def test_a_run_without_experts_to_explore_says_why():
    found = explorer({"absent": "Rows are about whole layers."}, ZERO)
    assert found.packed is None and found.absent == "Rows are about whole layers."


def test_pruning_says_at_which_share_an_expert_first_goes(tmp_path):
    data = {"absent": None, "cells": CELLS, "pruning": None}
    assert with_pruning(data, tmp_path) == data
    rows = [
        ("reap", 0, "layer", "all", 0.75, 0, 1),
        ("reap", 0, "layer", "all", 0.5, 0, 1),
        ("reap", 0, "layer", "all", 0.5, 1, 0),
        ("random", 0, "layer", "all", 0.75, 1, 1),
    ]
    (tmp_path / "pruning").mkdir()
    write_table(tmp_path / "pruning" / "gone.parquet", gone(rows))
    assert with_pruning(data, tmp_path)["pruning"] == {"reap": [None, 0.75, 0.5, None]}
    rows.append(("mean_weight", 0, "global", "all", 0.75, 1, 1))
    write_table(tmp_path / "pruning" / "gone.parquet", gone(rows))
    found = with_pruning(data, tmp_path)["pruning"]
    assert found == {
        "reap (layer, all)": [None, 0.75, 0.5, None],
        "mean weight (global, all)": [None, None, None, 0.75],
    }


def test_every_script_is_short_and_none_writes_markup():
    from moeaudit.report.pages.template import static

    for name in SCRIPTS:
        text = static(f"explore/{name}.js")
        assert text.count("\n") <= 250, name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
    assert script().startswith("(() => {") and "</script" not in script()
