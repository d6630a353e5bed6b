"""Small budgets, so that blocks are cut on texts of a few tokens."""

from __future__ import annotations

import pytest

from moeaudit.causal.walk.budget import Budget


def use(monkeypatch: pytest.MonkeyPatch, **blocks: int) -> None:
    """Every walk from here on has these blocks, whatever its device."""
    monkeypatch.setattr(Budget, "of", classmethod(lambda cls, device: cls(**blocks)))
