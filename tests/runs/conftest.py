"""A tiny model in a folder of its own, and twelve short documents, for audits of a few seconds."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from made import tiny_run


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path):
    import moeaudit as ma

    return ma.load(tiny_folder)


@pytest.fixture
def small_audit(tiny_model):
    """`audit` of the tiny model, small enough to run many times."""
    from moeaudit.front import audit

    return functools.partial(audit, tiny_model, tiny_run.TEXTS, tokens=12, verify_rows=2)


@pytest.fixture(scope="session")
def finished(tiny_model, tmp_path_factory):
    """A finished audit of the tiny model; tests may read it, not write to it."""
    from moeaudit.front import audit

    out = tmp_path_factory.mktemp("runs") / "whole"
    return audit(tiny_model, tiny_run.TEXTS, out=out, tokens=12, verify_rows=2)
