"""A fault of our own is a sentence with a status of its own, and the traceback is kept."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from moeaudit import cli


def test_a_fault_is_a_sentence_and_its_traceback_is_kept(monkeypatch, capsys, tmp_path):
    import tempfile

    def broken(*_: object, **__: object) -> None:
        raise KeyError("no such column")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("moeaudit.models.bundled.bundled_models", broken)
    monkeypatch.setattr(sys, "argv", ["moeaudit", "models"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == cli.FAULT == 70
    said = capsys.readouterr().err
    assert said.startswith("moeaudit: stopped by a fault of its own (KeyError: 'no such column'")
    assert said.count("\n") == 1
    found = re.search(r"report it with (\S+\.txt)", said)
    assert found is not None
    kept = Path(found[1]).read_text("utf-8")
    assert "Traceback" in kept and "broken" in kept
