"""The configuration that a cost is counted from: slips, absent files, an unreachable hub, as `load` tells them."""

from __future__ import annotations

import pytest

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models.sources import files


def test_a_slip_of_the_pen_is_guessed_at():
    with pytest.raises(ModelError, match="no configuration to read. Did you mean tiny-olmoe"):
        ma.cost("tiny-olme", machine="laptop")


def test_a_pointer_of_lfs_is_named(tmp_path):
    (tmp_path / "config.json").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(ModelError, match="config.json' is a pointer of Git LFS"):
        ma.cost(tmp_path, machine="laptop")


def test_an_unreachable_hub_is_one_line_at_once(monkeypatch, capsys):
    monkeypatch.setattr(files, "reachable", lambda: False)
    with pytest.raises(
        ModelError, match="cannot be reached from here.*cache.*allenai/OLMoE"
    ) as refused:
        ma.cost("nobody/nothing-here", machine="laptop")
    said = capsys.readouterr()
    assert "\n" not in str(refused.value) and not said.err and not said.out
