"""Runs: the question as a frozen spec, the run folder, resuming, and the audit itself."""

from .audit import audit as audit
from .progress import LogProgress as LogProgress
from .progress import Progress as Progress
from .run import Run as Run
from .spec import AuditSpec as AuditSpec

__all__ = ["AuditSpec", "LogProgress", "Progress", "Run", "audit"]
