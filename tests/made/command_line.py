"""The command line in this process."""

from __future__ import annotations

import sys

import pytest

from moeaudit import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run it with these words; its exit status."""
    monkeypatch.setattr(sys, "argv", ["moeaudit", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
