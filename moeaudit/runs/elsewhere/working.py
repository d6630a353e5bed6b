"""What a stage needs of the session that works on the run folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from moeaudit.frames import Frame

from ..spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator


@runtime_checkable
class Working(Protocol):
    """A `session.Session`: its folder, question and record, and stages that are timed and kept."""

    folder: Path
    spec: AuditSpec
    operator: Operator
    record: dict[str, Any]

    def stage(self, name: str, *leaves: str) -> AbstractContextManager[bool]: ...

    def reasons(self, experts: Frame) -> dict[str, str]: ...
