"""Some hundred wrong command lines, drawn by a seed: one paragraph, exit status 2, nothing loaded or written."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest

from moeaudit import cli

LINES = 400
LONG = "a" * 5000
# A call, or an argument with its value: advice for another kind of user.
PYTHON = re.compile(
    r"documents\(\[|\b(load|ablate|audit|merge)\(|\b[a-z_]+=['\"\w\[]|moeaudit\.[a-z]\w+\("
)
# Values that each kind of option refuses, whatever else is asked.
INT = ("x", "1.5", "", "NaN", "-1", "1e400", "inf", "None", "0x1f", "one")
FLOAT = ("x", "", "NaN", "inf", "-1", "-inf", "2", "1,5", "None")
TEXTS = ("nowhere", "no/such/place", LONG, "file.txt/inside", "https://example.org/x", "~nobody/x")
PLACES = ("file.txt/run", "/proc/nothing/here", LONG, "/dev/null/x")
FOLDERS = (*PLACES, "file.txt")
FILES = (*PLACES, "folder")
LAYERS = ("x", "3-1", "-1", "", "1,,2", "0-", "1.5", "all", "1;2", "NaN")
WORDS = ("bogus", "", ",", "kl,kl", "delta_nll;kl", "NaN", "-1")
MEMORY = ("x", "-3GiB", "", "12 apples", "NaN", "0")

SETTING = {
    "--operator": (
        "bogus",
        "",
        "swap:",
        "swap:x",
        "swap:-1",
        "zero:1",
        "everywhere:",
        "rerout",
        "without:",
    ),
    "--outcome": WORDS,
    "--text": TEXTS,
    "--layers": LAYERS,
    "--documents": (*INT, "0", "3"),
    "--tokens": (*INT, "1"),
    "--max-length": (*INT, "0", "2"),
    "--seed": INT,
    "--sesoi": ("x", "-0.1", "", "NaN", "inf", "0nats", "5%", "1 apple", "-1nats"),
    "--alpha": (*FLOAT, "0", "1"),
    "--metrics": WORDS,
    "--shift": TEXTS,
    "--verify-rows": (*INT, "0"),
}
PLACED = {
    "--device": ("tpu9", "cuda:x", "gpu", "-1"),
    "--dtype": ("float12", "", "int8", "half an int"),
    "--max-memory": MEMORY,
    "--offload": ("maybe", "", "-1"),
}
MEASURED = {
    "--text": TEXTS,
    "--documents": (*INT, "0", "3"),
    "--tokens": (*INT, "1"),
    "--seed": INT,
}
# What begins a command line that is right so far, and the options with values that make it wrong.
COMMANDS: dict[str, tuple[list[str], dict[str, tuple[str, ...]]]] = {
    "audit": (
        ["tiny-olmoe"],
        SETTING
        | PLACED
        | {
            "--out": FOLDERS,
            "--report": FILES,
            "--plan": TEXTS,
            "--share": (*FLOAT, "0", "5%"),
            "--shard": ("", "3", "0/4", "5/4", "a/b", "1/0", "-1/2", "1/2/3", "1.5/2"),
            "--executor": ("bogus", "", "Ray", "dask"),
            "--workers": (*INT, "0", "3"),
        },
    ),
    "screen": (
        ["tiny-olmoe"],
        MEASURED | PLACED | {"--out": FILES, "--layers": LAYERS, "--exact": (*INT, "0")},
    ),
    "prune": (
        ["tiny-olmoe"],
        MEASURED | PLACED | {"--out": FOLDERS, "--export": FOLDERS, "--draws": INT, "--keep": ("x", "1;2")},
    ),
    "inspect": (["tiny-olmoe"], PLACED),
    "plan": (
        ["tiny-olmoe", "--machine", "laptop"],
        {**SETTING, "--machine": ("bogus", "", "laptp"), "--share": (*FLOAT, "0"), "--power": (*FLOAT, "0", "1"),
         "--pilot": TEXTS, "--freeze": FILES, "--amend": TEXTS},
    ),
    "calibrate": (
        ["good.csv"],
        {"--confidence": ("bogus", ""), "--group": ("bogus", ""), "--weight": ("bogus",),
         "--bins": (*INT, "0", "1" * 10),
         "--draws": (*INT, "0", "5", "1000000000000"), "--level": (*FLOAT, "0", "1"), "--seed": INT, "--out": FOLDERS},
    ),
    "merge": (["folder", "nowhere", "--out=new"], {"--out": FOLDERS, "--report": FILES}),
    "report": (["nowhere"], {"--out": FILES}),
    "check": (["nowhere", "file.txt"], {}),
    "models": ([], {}),
}  # fmt: skip
# Where a path is expected: nothing, a folder for a file, a file for a folder, an empty name.
FIRST = {
    "audit": ("", "tiny-olme", "file.txt", "folder", "a/b/c", LONG, "\u200b", "no where"),
    "screen": ("", "tiny-olme", "file.txt", "folder"),
    "prune": ("", "tiny-olme", "file.txt", "folder"),
    "inspect": ("", "tiny-olme", "file.txt", "folder", LONG),
    "plan": ("", "tiny-olme", "file.txt", "folder"),
    "calibrate": (
        "",
        "nowhere.csv",
        "folder",
        "file.txt",
        "empty.csv",
        "bytes.bin",
        LONG,
        "/dev/null",
    ),
    "merge": ("", "folder", "file.txt", LONG, "/dev/null", "--out=new"),
    "models": ("x", "--bogus", "tiny-olmoe"),
    "report": ("", "folder", "file.txt", LONG, "/dev/null"),
    "check": ("", "folder", "file.txt"),
}


class Loaded(Exception):
    """A model would have been read: whatever was wrong should have been said before."""


def wrong_line(draw: random.Random) -> list[str]:
    """A command line with one wrong thing, or two."""
    command = draw.choice(list(COMMANDS))
    base, options = COMMANDS[command]
    kind = draw.random()
    if kind < 0.1:
        return [
            command,
            *base,
            draw.choice(["--bogus", "--sed", "-x", "--out-of", "--documnts=3", "---"]),
        ]
    if kind < 0.15:
        return [draw.choice(["", "audti", "--audit", "-1", "calibrat", "AUDIT"]), *base]
    if kind < 0.2:
        return [command, *base, "one", "too", "many"]
    if kind < 0.35 or not options:
        return [command, draw.choice(FIRST[command]), *base[1:]]
    chosen = draw.sample(sorted(options), k=min(len(options), draw.choice([1, 1, 1, 2])))
    line = [command, *base]
    for name in chosen:
        line.append(f"{name}={draw.choice(options[name])}")
    return line


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file, a folder and a table in it, and no model to be had."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.tex").write_text("!")
    (tmp_path / "file.txt").write_text("not a run, a model or a table")
    (tmp_path / "good.csv").write_text("confidence,correct\n" + ".5,1\n.6,0\n" * 20)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bytes.bin").write_bytes(bytes(range(256)))
    monkeypatch.chdir(tmp_path)
    import moeaudit.models  # noqa: F401  # so that the module below is there

    def refuse(*_: object, **__: object) -> None:
        raise Loaded

    import moeaudit.models.loading  # noqa: F401

    real = sys.modules["moeaudit.models.loading"].from_place

    def only_names(source, *rest):
        if str(source) == "tiny-olmoe":
            refuse()
        return real(source, *rest)

    monkeypatch.setattr(sys.modules["moeaudit.models.loading"], "from_place", only_names)
    return tmp_path


def run(line: list[str], monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["moeaudit", *line])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def shown(line: list[str]) -> str:
    return " ".join(part if len(part) < 60 else f"{part[:20]}[{len(part)}]" for part in line)


# Found by wider draws than the test makes.
FOUND = (
    "plan tiny-olmoe --machine laptop --max-length=-1",
    "plan tiny-olmoe --machine laptop --max-length=0",
    "plan tiny-olmoe --machine laptop --verify-rows=0",
    "plan tiny-olmoe --machine laptop --verify-rows=-1",
    "audit tiny-olmoe --operator=swap:-1",
    "merge folder folder --out=folder",
)


@pytest.mark.parametrize("line", FOUND)
def test_lines_that_went_wrong_once(line: str, place: Path, monkeypatch, capsys):
    before = sorted(place.rglob("*"))
    assert run(line.split(), monkeypatch) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and said.err.startswith("moeaudit: ")
    assert sorted(place.rglob("*")) == before


def test_wrong_command_lines_are_one_paragraph(place: Path, monkeypatch, capsys):
    draw, faults, seen = random.Random(11), [], set()
    before = sorted(place.rglob("*"))
    while len(seen) < LINES:
        line = wrong_line(draw)
        if tuple(line) in seen:
            continue
        seen.add(tuple(line))
        try:
            code = run(line, monkeypatch)
        except BaseException as error:  # noqa: BLE001
            faults.append(f"{shown(line)}: {type(error).__name__} {str(error)[:100]}")
            capsys.readouterr()
            continue
        said = capsys.readouterr()
        if (
            code != 2
            or said.out
            or said.err.count("\n") != 1
            or not said.err.startswith("moeaudit: ")
        ):
            faults.append(f"{shown(line)}: exit {code}, {said.out[:80]!r} {said.err[:200]!r}")
        if PYTHON.search(said.err) and "In Python" not in said.err and "in Python" not in said.err:
            faults.append(f"{shown(line)}: Python advice, {said.err[:200]!r}")
    assert not faults, f"{len(faults)} of {LINES}:\n" + "\n".join(faults)
    assert sorted(place.rglob("*")) == before
