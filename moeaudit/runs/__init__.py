"""Runs: the question as a frozen spec, the run folder, resuming, and the audit itself."""

from .progress import LogProgress as LogProgress
from .progress import Progress as Progress
from .run import StoredRun as StoredRun
from .spec import AuditSpec as AuditSpec

__all__ = ["AuditSpec", "LogProgress", "Progress", "StoredRun"]
