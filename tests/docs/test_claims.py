"""Every number that README and the pages of results state stands in docs/claims.toml, and is what its record says."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLAIMS = tomllib.loads((ROOT / "docs" / "claims.toml").read_text("utf-8"))
PAGES: list[str] = CLAIMS["pages"]
SETTING = "setting"  # a number that was chosen and not measured
NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d[\d,]*\d|\d)?\.?\d+(?:e-?\d+)?(?![\w]|\.\d)")
_DROPPED = [  # what is no prose: code, targets of links, exponents
    re.compile(r"^( *)```.*?^\1```", re.M | re.S),
    re.compile(r"(?:^(?: {4}|\t)[^\n|]*\n)+", re.M),
    re.compile(r"<(sup|!--).*?(/sup>|-->)", re.S),
    re.compile(r"`[^`]*`"),
    re.compile(r"\]\([^)\s]*\)"),
]


def plain(text: str) -> str:
    """A page's prose and tables in one line: no code, no link targets, no marks of emphasis."""
    for each in _DROPPED:
        text = each.sub(" ", text)
    text = re.sub(
        r"</?sub>|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)|[\[\]!]|^#+ .*$", " ", text, flags=re.M
    )
    return " ".join(text.split())


def numbers(text: str) -> list[str]:
    return [found[0] for found in NUMBER.finditer(text)]


def agrees(printed: str, value: float) -> bool:
    """Whether `value`, rounded as `printed` is, gives `printed`: half of the last digit, at most 3 % for 81,000."""
    digits = printed.replace(",", "").replace("−", "-")
    shown = float(digits)
    mantissa, _, power = digits.partition("e")
    places = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(power or 0) - places)
    slack = 0.5 * unit
    if not places and not power:
        zeros = len(mantissa) - len(mantissa.rstrip("0"))
        slack = max(slack, min(0.5 * 10.0**zeros, 0.03 * abs(shown)))
    if isinstance(value, int) and not zeros_rounded(mantissa):
        return shown == value
    return math.isclose(shown, value, rel_tol=1e-9, abs_tol=slack * (1 + 1e-9))


def zeros_rounded(mantissa: str) -> bool:
    return len(mantissa) > 3 and mantissa.endswith("00")


@cache
def record(file: str) -> dict[str, Callable[..., Any]]:
    """What an expression may ask of a record: a JSON file by path, a page by its tables and sentences."""
    text = (ROOT / file).read_text("utf-8")
    if file.endswith(".json"):
        content = json.loads(text)

        def at(path: str) -> Any:
            found = content
            for part in path.split("/"):
                found = found[int(part) if isinstance(found, list) else part]
            return found

        return {"at": at}
    rows: list[dict[str, str]] = []
    lines: list[list[str]] = []
    head: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []
        if not cells:
            head = []
        elif not head:
            head = cells
        elif not set("".join(cells)) <= set(":- "):
            rows.append(dict(zip(head, cells)))
            lines.append(cells)
    flat = plain(text)

    def cell(column: str, *keys: str) -> float:
        (found,) = [r for r in rows if list(r.values())[: len(keys)] == list(keys) and column in r]
        return float(numbers(found[column])[0].replace(",", ""))

    def column(name: str) -> list[float]:
        return [float(numbers(r[name])[0].replace(",", "")) for r in rows if name in r]

    def row(begins: str) -> list[float]:
        """All numbers of the one row whose first cell begins so."""
        (found,) = [cells for cells in lines if cells[0].startswith(begins)]
        return [float(n.replace(",", "")) for cell in found[1:] for n in numbers(cell)]

    def said(phrase: str) -> float:
        """The number that stands for `#` in a phrase of the page."""
        pattern = re.escape(plain(phrase)).replace(r"\#", f"({NUMBER.pattern})")
        (found,) = re.findall(pattern, flat)
        return float(found.replace(",", ""))

    return {"cell": cell, "row": row, "column": column, "said": said}


def value(expression: str, file: str | dict[str, str]) -> float:
    """A number of a record: a path in a JSON file, or an expression of `at`, `cell`, `row`, `column` and `said`.

    Where a claim has several records, `file` names them and `name: expression` takes one.
    """
    if isinstance(file, dict):
        name, _, expression = expression.partition(": ")
        file = file[name]
    asked = record(file)
    if "at" in asked and "(" not in expression:
        return asked["at"](expression)
    allowed = {"max": max, "min": min, "len": len, "sorted": sorted, "round": round}
    return eval(expression, {"__builtins__": {}}, {**allowed, **asked})  # noqa: S307


def faults(claim: dict[str, Any]) -> list[str]:
    """What of a claim is not as its record says."""
    printed, asked = numbers(plain(claim["text"])), claim.get("values", [])
    if "file" not in claim:
        chosen = bool(asked) and set(asked) == {SETTING} and len(asked) == len(printed)
        known = chosen or (claim.get("source") and not asked)
        return [] if known else [f"{claim['text']}: no file and no source"]
    if len(printed) != len(asked):
        return [f"{claim['text']}: {len(printed)} numbers {printed} and {len(asked)} values"]
    found = []
    for number, expression in zip(printed, asked):
        if expression == SETTING or (not expression and claim.get("source")):
            continue
        known = value(expression, claim["file"])
        if not agrees(number, known):
            found.append(f"{claim['page']} says {number}, {claim['file']} {expression} is {known}")
    return found


def unregistered(text: str, claims: list[str], ordinary: list[str]) -> list[str]:
    """The numbers of a page that stand in no claim and are no ordinary ones, each with what stands before it."""
    inside = [
        (found.start(), found.end())
        for pattern in [*map(re.escape, claims), *ordinary]
        for found in re.finditer(pattern, text)
    ]
    return [
        text[max(0, found.start() - 40) : found.end() + 15]
        for found in NUMBER.finditer(text)
        if not any(a <= found.start() and found.end() <= b for a, b in inside)
    ]


def of(page: str) -> list[dict[str, Any]]:
    return [claim for claim in CLAIMS["claim"] if claim["page"] == page]


@pytest.mark.parametrize("page", PAGES)
def test_every_number_of_a_page_is_registered(page):
    text = plain((ROOT / page).read_text("utf-8"))
    claims = [plain(claim["text"]) for claim in of(page)]
    gone = [claim for claim in claims if claim not in text]
    assert not gone, "claims whose text the page does not have:\n" + "\n".join(gone)
    left = unregistered(text, claims, CLAIMS["ordinary"])
    assert not left, f"{len(left)} numbers of {page} stand in no claim:\n" + "\n".join(left)


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_what_their_records_say(page):
    wrong = [fault for claim in of(page) for fault in faults(claim)]
    assert not wrong, "\n".join(wrong)


def counted() -> tuple[int, int, int]:
    """How many numbers are held against a record, were chosen, and are of runs that were not kept."""
    asked = [
        expression
        for claim in CLAIMS["claim"]
        for expression in claim.get("values", [""] * len(numbers(plain(claim["text"]))))
    ]
    chosen, lost = asked.count(SETTING), asked.count("")
    return len(asked) - chosen - lost, chosen, lost


@pytest.mark.parametrize(  # the counts are the test's name, so that they stand in its output
    "counts", [counted()], ids=lambda n: f"{n[0]} held, {n[1]} settings, {n[2]} not kept"
)
def test_every_claim_says_where_it_comes_from(counts):
    for claim in CLAIMS["claim"]:
        assert claim["page"] in PAGES and claim.get("command"), claim
        assert numbers(plain(claim["text"])), f"no number in {claim['text']}"
    assert CLAIMS["not_kept"] == counts[2], "docs/claims.toml counts others than it holds"


@pytest.mark.parametrize("each", CLAIMS["record"], ids=lambda each: each["file"])
def test_a_record_names_the_command_that_wrote_it(each):
    text = (ROOT / each["file"]).read_text("utf-8")
    assert each["command"] in text


def test_drift_is_seen_on_either_side(tmp_path):
    claim = {
        "page": "p.md",
        "text": "**81,000** in 32.0 s, .59",
        "file": "r.json",
        "values": ["a", "b", "c"],
    }
    (tmp_path / "r.json").write_text(json.dumps({"a": 81385.6, "b": 31.96, "c": 0.5904}))
    file = str(tmp_path / "r.json")
    assert not faults(claim | {"file": file})
    assert "says 81,000" in faults(claim | {"file": file, "values": ["b", "b", "c"]})[0]
    assert faults(claim | {"file": file, "text": "82,000 in 32.0 s, .59"})
    assert faults(claim | {"file": file, "text": "81,000 in 32.1 s, .59"})
    assert faults(claim | {"file": file, "text": "81,000 in 32.0 s, .60"})
    assert unregistered("it took 12 s on Python 3.11", [], [r"Python 3\.\d+"]) == [
        "it took 12 s on Python 3."
    ]
    assert not unregistered("it took 12 s on Python 3.11", ["took 12 s"], [r"Python 3\.\d+"])
    assert numbers("OLMoE-1B-7B, 5.3e-6, .03 to .11, H100, qwen2, 1,221 and -.01") == [
        "5.3e-6", ".03", ".11", "1,221", "-.01",
    ]  # fmt: skip
    assert agrees("160", 160) and not agrees("160", 161) and not agrees("88", 90)
