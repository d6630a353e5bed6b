"""Audits without their page, for tests that do not look at it: it takes as long to make as a small audit's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def without_page() -> Iterator[None]:
    """While it is open, the page of a run is one line that says so."""
    from moeaudit.runs.working.folder import MARK

    with pytest.MonkeyPatch.context() as patch:
        line = f'{MARK} 0">A page that no test looks at.\n'
        patch.setattr("moeaudit.report.page.render", lambda run: line)
        yield
