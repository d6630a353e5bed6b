"""The reference comparison notices what it is there to notice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.reference import main, plain

NUMBERS = pd.DataFrame(
    {
        "layer": [1, 2, 3],
        "kl": np.array([0.25, np.nan, 0.5], dtype="float32"),
        "p": pd.array([0.1, None, 0.3], dtype="Float64"),
        "reason": [None, "no spread", None],
    }
)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for table in ("effects", "tests"):
            NUMBERS.to_parquet(tmp_path / name / f"{table}.parquet", index=False)
    return tmp_path / "a", tmp_path / "b"


def told(folders, capsys):
    code = main(["compare", *map(str, folders)])
    return code, capsys.readouterr().out


def changed(folder, table=NUMBERS, **columns):
    table.assign(**columns).to_parquet(folder / "tests.parquet", index=False)


def test_equal_folders_are_equal_and_nulls_equal_nulls(folders, capsys):
    code, said = told(folders, capsys)
    assert code == 0 and said == "2 tables, 24 values compared, 0 differences\n"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"kl": np.nextafter(NUMBERS.kl, np.float32(1))}, "kl differs in 2 of 3 rows"),
        ({"kl": NUMBERS.kl.fillna(0.0)}, "kl differs in 1 of 3 rows"),
        ({"kl": NUMBERS.kl.astype("float64")}, "kl is float32 and float64"),
        ({"p": pd.array([0.1, 0.2, 0.3], dtype="Float64")}, "p differs in 1 of 3 rows"),
        ({"reason": [None, "no room", None]}, "reason differs in 1 of 3 rows"),
        ({"layer": [1, 2, 4]}, "layer differs in 1 of 3 rows"),
    ],
    ids=["last bit", "a null filled", "another type", "nullable", "text", "whole number"],
)
def test_a_changed_value_is_noticed(folders, capsys, columns, words):
    changed(folders[1], **columns)
    code, said = told(folders, capsys)
    assert code == 1 and f"tests.parquet: {words}" in said and "1 differences" in said


def test_a_missing_table_a_missing_column_and_a_missing_row_are_noticed(folders, capsys):
    (folders[1] / "effects.parquet").unlink()
    changed(folders[1], NUMBERS.drop(columns="p"))
    code, said = told(folders, capsys)
    assert code == 1 and f"effects.parquet: only in {folders[0]}" in said
    assert f"the column p is only in {folders[0]}" in said
    changed(folders[1], NUMBERS.iloc[:2])
    code, said = told(folders, capsys)
    assert code == 1 and "3 rows against 2" in said


def test_two_empty_folders_prove_nothing(tmp_path, capsys):
    (tmp_path / "c").mkdir()
    assert told((tmp_path / "c", tmp_path / "c"), capsys)[0] == 1


def test_categories_and_indices_are_stored_as_what_they_say():
    table = pd.DataFrame({"domain": pd.Categorical(["b", "a"])}, index=[7, 9])
    stored = plain(table)
    assert list(stored.index) == [0, 1] and list(stored.domain) == ["b", "a"]
