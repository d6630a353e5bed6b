"""How pruning tells what it is doing: stages of known length, as `moeaudit.audit` tells its own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from moeaudit.errors import InputError
from moeaudit.frames.waiting import Silent


@runtime_checkable
class Steps(Protocol):
    """What `moeaudit.runs.progress.Progress` is, seen from a room below it."""

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage begins: `total` units of work."""
        ...

    def advance(self, amount: int) -> None:
        """`amount` units of the current stage are done."""
        ...

    def note(self, message: str) -> None:
        """Something the user should know now."""
        ...


def steps_of(progress: object) -> Steps:
    """The progress that was given, or a silent one. Raises InputError for what cannot be told anything."""
    if progress is None:
        return Silent()
    if not isinstance(progress, Steps):
        raise InputError(
            f"progress = {progress!r} has no methods stage(name, total, unit), advance(amount) and note(message); "
            "give an object that has, or leave it out."
        )
    return progress
