"""One made-up run, and the page written from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made import synthetic


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("run"), documents=12, tokens=30)


@pytest.fixture(scope="session")
def run(made_up):
    from moeaudit.front import Run

    return Run.load(made_up)


@pytest.fixture(scope="session")
def page(run) -> str:
    from moeaudit.report import render

    return render(run)


@pytest.fixture(scope="session")
def shown(page: str) -> str:
    """The page as a reader without scripts has it: no script element, no style."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
