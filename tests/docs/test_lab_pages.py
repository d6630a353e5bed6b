"""What the pages of the lab say was found is what the records of the analyses say, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = sorted((DOCS / "measured" / "lab").glob("*.json"))
LIMITS = re.compile(r"[-+−]?[\d.]+ \[[-+−]?[\d.]+, [-+−]?[\d.]+\]")  # an estimate and its limits


def sentences(record: Path) -> list[str]:
    found = json.loads(record.read_text("utf-8"))
    return found.get("sentences") or [found["sentence"]]


def one_line(text: str) -> str:
    return " ".join(re.sub(r"^> ?", "", text, flags=re.M).split())


def test_there_are_records():
    assert len(RECORDS) > 5


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.stem)
def test_a_page_quotes_what_its_analysis_found(record):
    page = one_line((DOCS / "lab" / f"{record.stem}.md").read_text("utf-8"))
    assert not json.loads(record.read_text("utf-8"))["quick"]
    assert [said for said in sentences(record) if one_line(said) not in page] == []


def test_the_table_of_systems_repeats_no_number_that_no_record_holds():
    said = " ".join(one_line(s) for record in RECORDS for s in sentences(record))
    quoted = LIMITS.findall((DOCS / "lab.md").read_text("utf-8"))
    assert len(quoted) > 5
    assert [number for number in quoted if number not in said] == []
