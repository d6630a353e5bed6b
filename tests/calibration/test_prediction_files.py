"""Files of predictions: read as they are, or refused by name and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moeaudit.calibration.predictions.files import read_predictions, read_with_remarks
from moeaudit.errors import InputError

HEAD = "document,confidence,correct,group\n"


def write(folder: Path, text: str | bytes, name: str = "p.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


GOOD = {
    "plain": (HEAD + "4.1,.5,1,001\n4.10,.6,0,1\n", "p.csv"),
    "byte order mark": ("\ufeff" + HEAD + "4.1,.5,1,001\n4.10,.6,0,1\n", "p.csv"),
    "carriage returns": ((HEAD + "4.1,.5,1,001\n4.10,.6,0,1\n").replace("\n", "\r\n"), "p.csv"),
    "carriage returns alone": ((HEAD + "4.1,.5,1,001\n4.10,.6,0,1\n").replace("\n", "\r"), "p.csv"),
    "no line end at the end": (HEAD + "4.1,.5,1,001\n4.10,.6,0,1", "p.csv"),
    "blank lines": ("\n" + HEAD + "\n4.1,.5,1,001\n\n4.10,.6,0,1\n\n", "p.csv"),
    "tabs": ((HEAD + "4.1,.5,T,001\n4.10,.6,F,1\n").replace(",", "\t"), "p.tsv"),
    "semicolons": ((HEAD + "4.1,.5,pass,001\n4.10,.6,fail,1\n").replace(",", ";"), "p.csv"),
    "quotes": (HEAD + '"4.1",".5",Y,"001"\n4.10,.6,N,1\n', "p.csv"),
    "spaces": (HEAD.replace(",", ", ") + "4.1, .5, 1,001\n4.10, .6, 0,1\n", "p.csv"),
    "an index": ("," + HEAD + "0,4.1,.5,1,001\n1,4.10,.6,0,1\n", "p.csv"),
    "JSON Lines": (
        '{"document": 4.1, "confidence": 0.5, "correct": true, "group": "001"}\n'
        '{"document": 4.10, "confidence": 0.6, "correct": false, "group": 1}\n',
        "p.jsonl",
    ),
    "a JSON list": (
        '[{"document": 4.1, "confidence": 0.5, "correct": 1, "group": "001"},\n'
        ' {"document": 4.10, "confidence": "0.6", "correct": "F", "group": 1}]',
        "p.json",
    ),
}


@pytest.mark.parametrize("case", list(GOOD))
def test_the_same_two_rows(case, tmp_path):
    text, name = GOOD[case]
    p = read_predictions(write(tmp_path, text, name))
    assert p.confidence.tolist() == [0.5, 0.6] and p.correct.tolist() == [True, False]
    assert list(p.document) == ["4.1", "4.10"] and list(p.group) == ["001", "1"]


def test_packed_and_parquet(tmp_path):
    packed = write(tmp_path, gzip.compress(GOOD["plain"][0].encode()), "p.csv.gz")
    assert list(read_predictions(packed).document) == ["4.1", "4.10"]
    frame = pd.DataFrame({"confidence": [0.5, 0.6], "correct": [1, 0], "group": [True, False]})
    frame.to_parquet(tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").groups() == ["False", "True"]


def test_truth_values_and_words_of_groups_stay_apart(tmp_path):
    rows = "".join(f"{name},.5,1\n" for name in ("True", "true", "TRUE", "1", "1.0", "NA", "None"))
    p = read_predictions(write(tmp_path, "group,confidence,correct\n" + rows))
    assert len(p.groups()) == 7
    rows = '{"group": true, "confidence": 0.5, "correct": 1}\n{"group": "True", "confidence": 0.5, "correct": 1}\n'
    assert read_predictions(write(tmp_path, rows, "p.jsonl")).groups() == ["True", "true"]


def test_text_over_two_lines_is_one_field(tmp_path):
    text = HEAD + '"one\ntwo",.5,1,a\nb,.6,maybe,a\n'
    with pytest.raises(InputError, match=r"line 4 \('maybe'\)"):
        read_predictions(write(tmp_path, text))


BAD = {
    "a comma too many": (
        HEAD + "a,.5,1,g,\nb,.5,1,g\n",
        "line 2 has 5 fields and the header has 4",
    ),
    "too many later": (HEAD + "a,.5,1,g\n\nb,.5,1,g,\n", "line 4 has 5 fields"),
    "a field too few": (HEAD + "a,.5,1,g\nb,.5,1\n", "line 3 has 3 fields"),
    "only the header short": ("confidence,correct\n.5,1,x\n.5,1,y\n", "line 2 has 3 fields"),
    "an open quote": (HEAD + 'a,.5,1,"g\nb,.5,1,g\n', "quotation mark"),
    "a column twice": ("confidence,correct,correct\n.5,1,0\n", "column correct more than once"),
    "missing number": (HEAD + "a,.5,1,g\nb,,1,g\n", r"line 3 \(missing\)"),
    "a word": (HEAD + "a,.5,1,g\nb,high,1,g\n", r"numbers, the first in line 3 \('high'\)"),
    "nan": (HEAD + "a,.5,1,g\nb,nan,1,g\n", "line 3"),
    "a decimal comma": ("confidence;correct\n0,5;1\n", r"line 2 \('0,5'\).*decimal point"),
    "neither": (HEAD + "a,.5,1,g\nb,.5,0.5,g\n", r"line 3 \('0.5'\)"),
    "no group": (HEAD + "a,.5,1,g\nb,.5,1,\n", "no group, the first in line 3"),
    "spaces": (HEAD + "a,.5,1,law\nb,.5,1,law \n", "line 3 is 'law '"),
    "a name astray": ("confidnce,correct\n.5,1\n", "Did you mean confidnce"),
    "broken JSON": ('{"confidence": 0.5, "correct": 1}\n{"confidence": 0.5\n', "JSON.*line 2"),
    "JSON of numbers": ("[1, 2]\n", "entry 1 of the list is str"),
    "a JSON object": (
        '{\n "results": {},\n "configs": {}\n}\n',
        r"one JSON object \(results, configs\)",
    ),
    "a key absent": (
        '{"confidence": 0.5, "correct": 1}\n{"confidence": 0.5}\n',
        "neither true nor false, the first in line 2",
    ),
    "latin-1": (HEAD.encode() + b"a,.5,1,g\n\xe9,.5,1,g\n", "line 3 holds the byte 0xe9"),
    "UTF-16": (HEAD.encode("utf-16"), "UTF-16"),
    "Excel": (b"PK\x03\x04 and more", "Excel"),
    "numpy": (b"\x93NUMPY and more", "numpy array"),
    "null bytes": (HEAD + "a,.5,1,\x00\n", "null bytes"),
    "bad gzip": (b"\x1f\x8b and more", "unpacked"),
    "spaces between fields": ("confidence correct\n.8 1\n", "one field: fields are separated by"),
    "bars between fields": ("|confidence|correct|\n|-|-|\n|.8|1|\n", "one field"),
    "no header": ("0.8,1\n0.7,0\n", "the first line must name the columns"),
    "percentages": ("confidence,correct\n85%,1\n", r"line 2 \('85%'\).*as shares, such as 0.85"),
    "only a header": (HEAD, "no predictions"),
    "a summary in one line": ('{"results": {"arc": {}}, "configs": {}}\n', "give its samples"),
    "a summary in many": ('{\n "results": {},\n "config": {}\n}\n', "give its samples"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_is_out_of_step_is_refused_with_its_line(case, tmp_path):
    text, words = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=f"(?s)p.csv.*{words}") as refused:
        read_predictions(path)
    assert "\n" not in str(refused.value)


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    frame = pd.DataFrame({"confidence": [0.5, 1.5], "correct": [1, 0]})
    frame.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"row 2 \(the first is 1\) \(1.5\)"):
        read_predictions(tmp_path / "p.parquet")


def sample(number: int, scores: list[float], target: int, **more: object) -> dict:
    right = float(int(np.argmax(scores) == target))
    answers = [[str(score), "False"] for score in scores]
    record = {"doc_id": number, "target": str(target), "filtered_resps": answers, "acc": right}
    return record | {"doc": {"question": "?"}, "subject": "law"} | more


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_samples_of_multiple_choice_are_read(tmp_path):
    scores = [-1.0, -2.0, -4.0, -3.0]
    path = write(tmp_path, lines(sample(0, scores, 0), sample(1, scores, 2)), "samples.jsonl")
    p, remarks = read_with_remarks(path, {"group": "subject"})
    want = 1 / np.exp(np.array(scores) + 1).sum()
    assert p.confidence.tolist() == pytest.approx([want, want])
    assert p.correct.tolist() == [True, False] and list(p.document) == ["0", "1"]
    assert p.groups() == ["law"] and "softmax" in remarks[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filtered_resps": ["Paris"]}, "line 2 .*generated text"),
        ({"acc": 1.0}, "acc is 1.0, but the choice"),
        ({"acc": None}, "without acc"),
        ({"acc": 0.5}, r"line 2 \('0.5'\)"),
    ],
    ids=["generated", "another acc", "no acc", "partial credit"],
)
def test_samples_without_confidence_are_refused_by_name(change, words, tmp_path):
    scores = [-1.0, -2.0]
    path = write(tmp_path, lines(sample(0, scores, 0), sample(1, scores, 1, **change)), "s.jsonl")
    with pytest.raises(InputError, match=words):
        read_predictions(path)
