"""Its place here makes the helper modules of this folder importable from every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.without_page import without_page

# Modules that take a minute: first, so that no process is left alone with one of them at the end.
LONG = (
    *("test_sensitivity", "test_notebooks", "test_cli", "test_over_experts", "test_merge_parts"),
    *("test_disk_full", "test_kills_and_signals", "test_budget", "test_wrong_command_lines"),
)


@pytest.fixture
def no_page():
    """Audits of this test make no page; those of fixtures that it shares with others do."""
    with without_page():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: Path(str(item.path)).stem not in LONG)
