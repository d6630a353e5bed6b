"""Shards: what a table is of, what each file must hold, and files that are written block by block."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import moeaudit.store.shard as shard
from moeaudit.errors import RunError
from moeaudit.store.shards import Shards

FRAME = pd.DataFrame({"a": np.arange(6, dtype="int16"), "b": np.linspace(0, 1, 6)})
ABOUT = {"question": {"name": "zero", "operator": {"k": (1, 2)}}, "weights": "abc"}


def test_a_table_is_gone_on_with_only_if_it_is_of_the_same(tmp_path):
    Shards(tmp_path, ABOUT, 3).write(0, FRAME)
    again = Shards(tmp_path, ABOUT, 3)
    assert again.has(0) and not again.has(1) and not again.whole
    before = (tmp_path / "manifest.json").read_bytes()
    other = {"question": {"name": "zero", "operator": {"k": (1, 3)}}, "weights": "abd"}
    with pytest.raises(RunError) as caught:
        Shards(tmp_path, other, 3)
    message = str(caught.value)
    assert "question.operator.k is [1, 2] there and [1, 3] here" in message
    assert "weights is 'abc' there and 'abd' here" in message and "name" not in message
    with pytest.raises(RunError, match="parts is 3 there and 4 here"):
        Shards(tmp_path, ABOUT, 4)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_table_is_whole_when_all_its_parts_are_there(tmp_path):
    shards = Shards(tmp_path, ABOUT, 2)
    shards.write(1, FRAME)
    assert not shards.whole
    shards.write(0, FRAME)
    assert shards.whole and Shards(tmp_path).whole and Shards(tmp_path).about == shards.about


def test_one_changed_byte_is_found_and_the_shard_named(tmp_path):
    shards = Shards(tmp_path)
    for number in range(2):
        shards.write(number, FRAME)
    path = tmp_path / "00001.parquet"
    content = bytearray(path.read_bytes())
    content[30] ^= 1  # the size stays
    path.write_bytes(content)
    again = Shards(tmp_path)
    assert again.has(0) and not again.has(1) and not again.whole
    with pytest.raises(RunError, match=r"00001.parquet is damaged.*recomputes this shard only"):
        again.read()
    again.write(1, FRAME)
    assert again.whole and len(Shards(tmp_path).read()) == 12


def test_a_manifest_without_digests_is_damaged(tmp_path):
    Shards(tmp_path).write(0, FRAME)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"shards": {"00000.parquet": {"rows": 6, "bytes": 9}}}))
    with pytest.raises(RunError, match=r"manifest.json is damaged.*sha256"):
        Shards(tmp_path)


def test_facts_of_a_frame_stand_in_the_files_own_metadata(tmp_path):
    frame = FRAME.copy()
    frame.attrs["moeaudit"] = {"question": ABOUT["question"]["name"]}
    shards = Shards(tmp_path)
    shards.write(0, frame)
    written = pq.read_metadata(tmp_path / "00000.parquet").metadata[b"moeaudit"]
    assert json.loads(written) == {"question": "zero"} == shards.facts[0]
    assert [each.attrs for each in shards.frames()] == [frame.attrs]
    assert shards.read().attrs == frame.attrs


def test_a_shard_written_in_blocks_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "ROWS", 4)
    shards = Shards(tmp_path)
    with shards.writing(0) as one:
        for start in range(0, 6, 2):
            one.add(FRAME.iloc[start : start + 2])
        one.facts = {"said": "at the end"}
    assert pq.ParquetFile(tmp_path / "00000.parquet").num_row_groups == 2
    assert [len(frame) for frame in shards.frames()] == [6]  # its documents are whole
    pd.testing.assert_frame_equal(shards.read(), FRAME)
    assert shards.rows == 6 and shards.facts == [{"said": "at the end"}]


def test_a_column_that_comes_late_is_null_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "ROWS", 2)
    shards = Shards(tmp_path)
    with shards.writing(0) as one:
        one.add(FRAME.head(2))
        one.add(FRAME.head(2).assign(late=np.array([7, 8], "int16")))
        one.add(FRAME.head(2))
    late = shards.read()["late"]
    assert late.isna().tolist() == [True, True, False, False, True, True]
    assert late.dropna().tolist() == [7, 8] and shards.read()["a"].tolist() == [0, 1] * 3
    assert not list(tmp_path.glob(".*"))


def test_a_block_that_fails_leaves_no_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "ROWS", 2)
    shards = Shards(tmp_path)
    with pytest.raises(KeyboardInterrupt), shards.writing(0) as one:
        one.add(FRAME)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir()) and not shards.has(0)


def test_columns_are_known_without_reading_and_chosen_when_read(tmp_path):
    shards = Shards(tmp_path)
    shards.write(0, FRAME)
    shards.write(1, FRAME.head(0).assign(c=1.0))
    assert shards.columns == ["a", "b", "c"]
    assert [list(frame.columns) for frame in shards.frames(["b", "a"])] == [["b", "a"]] * 2
    assert [frame.dtypes["a"] for frame in shards.frames()] == [np.dtype("int16")] * 2
    with pytest.raises(RunError, match="no column d; it has a, b, c"):
        shards.read(["a", "d"])
