"""The table a forecast learns from: the package's own, and one refusal for each way it can be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from made import forecasts

from moeaudit.errors import InputError
from moeaudit.pruning.forecast import SIGNS, known
from moeaudit.pruning.forecast.fit import left_out, trust
from moeaudit.pruning.forecast.known import FORMAT, NAME, SHIPPED, TARGETS, record_of


def test_the_table_of_the_package_is_whole_and_says_what_made_it():
    found = known()
    assert found.name == NAME and len(found.frame) >= 20 and found.recipes >= 10
    assert (
        not found.frame[["recipe", "seed", *TARGETS, "clean_nll", "parameters"]]
        .isna()
        .any(axis=None)
    )
    assert not found.frame.duplicated(["recipe", "seed"]).any()
    about = found.about
    assert about["criterion"] == "reap" and not about["quick"] and about["format"] == FORMAT
    assert about["sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    hashes = [each for seeds in about["recipes"].values() for each in seeds.values()]
    assert len(hashes) == len(set(hashes)) == len(found.frame)
    assert set(about["recipes"]) == set(found.frame["recipe"])
    assert {"torch", "transformers"} <= set(about["packages"]) and about["code"]["commit"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_table_of_the_package_can_be_validated(target):
    """Whatever it is worth, every part of the sentence about it is a number."""
    frame = known().frame
    signs = [name for name in SIGNS if not frame[name].isna().any()]
    assert len(signs) >= 5
    told = trust(left_out(frame, target, signs), left_out(frame, target, []))
    assert told["gain_low"] < told["gain"] < told["gain_high"] < 1
    assert 0 < told["covered"] <= 1 and told["factor"] > 1


def write(folder: Path, frame: pd.DataFrame, **changed: object) -> Path:
    path = folder / "models.csv"
    frame.to_csv(path, index=False)
    about = record_of(path.read_bytes(), criterion="reap") | changed
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_a_table_of_ones_own_is_read_with_its_record(tmp_path):
    made = forecasts.table()
    found = known(write(tmp_path, made))
    assert found.criterion == "reap" and found.recipes == 10
    assert known(str(tmp_path / "models.csv")).frame.equals(found.frame)
    (tmp_path / "models.json").unlink()
    assert known(tmp_path / "models.csv").about == {} and known(made).name == "the table"
    assert known(found) is found


def test_tables_of_another_version_are_refused(tmp_path):
    made = forecasts.table()
    with pytest.raises(
        InputError, match=r"written by moeaudit 0\.9 and has format 7; .* again with python -m"
    ):
        known(write(tmp_path, made, format=7, moeaudit="0.9"))
    with pytest.raises(InputError, match="means something else by harm;"):
        known(write(tmp_path, made, signs=SIGNS | {"harm": "the largest harm of one removal"}))
    path = write(tmp_path, made)
    path.write_text(path.read_text().replace("recipe 3", "recipe 4"))
    with pytest.raises(InputError, match="changed since"):
        known(path)
    (tmp_path / "models.json").write_text("{}")
    with pytest.raises(InputError, match=r"models\.json is not the record of a table"):
        known(path)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read at .*none\.csv' \(No such file"):
        known(tmp_path / "none.csv")
    with pytest.raises(InputError, match="Is a directory"):
        known(tmp_path)
    bad = tmp_path / "bad.csv"
    for content in (b"", b"\xff\xfe\x00\x81", b'"a\n1,2,3'):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.csv is no table|lacks recipe"):
            known(bad)


def test_columns_numbers_and_recipes_are_checked():
    made = forecasts.table()
    with pytest.raises(InputError, match=r"lacks lost_50, concentration \(the table\)"):
        known(made.drop(columns=["lost_50", "concentration"]))
    with pytest.raises(
        InputError, match="harm of row 3 is 'much', and a finite number was expected"
    ):
        known(
            made.astype({"harm": object}).assign(
                harm=["much" if i == 2 else 0.1 for i in range(len(made))]
            )
        )
    with pytest.raises(InputError, match="lost_25 of row 1 is inf"):
        known(made.assign(lost_25=float("inf")))
    with pytest.raises(InputError, match="row 2 names no recipe"):
        known(made.assign(recipe=[None if i == 1 else "a" for i in range(len(made))]))
    with pytest.raises(
        InputError,
        match="models of 1 recipe; 5 or more are needed.*Seeds of one recipe count as one",
    ):
        known(made[made["recipe"] == "recipe 0"])
    with pytest.raises(InputError, match="models of 4 recipes; 5 or more"):
        known(made[made["recipe"] < "recipe 4"])
