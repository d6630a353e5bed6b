"""Runs: the question as a frozen spec, the run folder, resuming, and the audit itself."""

from typing import Any

from .progress import LogProgress as LogProgress
from .progress import Progress as Progress
from .spec import AuditSpec as AuditSpec

__all__ = ["AuditSpec", "LogProgress", "Progress"]


def __getattr__(name: str) -> Any:
    if name != "StoredRun":
        raise AttributeError(f"module 'moeaudit.runs' has no attribute {name!r}")
    from .run import StoredRun  # needs pandas, which the command line does not wait for

    return StoredRun
