"""What a process that works on a run folder keeps: its record, and stages that are timed and kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.frames import Frame
from moeaudit.store.files import file_sha256, write_json

from ..parts.groups import Spread
from ..progress import Progress
from ..spec import AuditSpec
from .folder import FORMAT, RECORD
from .provenance import now

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.text.choice import Material

# What has to be made again after a stage is: `domains` writes into the table of tests.
UNDOES = {"statistics": "domains", "shift statistics": "domains"}


class Work:
    """A folder, its question and its record. The record says which stages are done, and the SHA-256 of
    what they left."""

    def __init__(
        self,
        folder: Path,
        spec: AuditSpec,
        record: dict[str, Any] | None,
        plan: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.record = record or {
            "format": FORMAT,
            "spec": spec.to_dict(),
            "spec_hash": spec.hash,
            "status": "running",
            "sessions": [],
            "stages": {},
            "files": {},
            "notes": [],
            "plan": plan,
        }

    def reasons(self, experts: Frame) -> dict[str, str]:
        """Why metrics are null, for those that are tested."""
        named = set(experts["metric"])
        return {name: why for name, why in self.record["reasons"].items() if name in named}

    @contextmanager
    def stage(self, name: str, *leaves: str) -> Iterator[bool]:
        """Time a stage; yields False if it was done before and the files that it leaves are as they were."""
        before = self.record["stages"].get(name, {"seconds": 0.0})
        there = leaves and all(sound(self.folder, self.record, leaf) for leaf in leaves)
        todo = "done" not in before or not there
        later = self.record["stages"].get(UNDOES.get(name, ""), {})
        if todo and later.pop("done", None):
            self.save()
        since = time.perf_counter()
        yield todo
        if todo:
            seconds = round(before["seconds"] + time.perf_counter() - since, 3)
            self.record["stages"][name] = {"seconds": seconds, "done": now()}
            self.seal(leaves)
            self.save()

    def seal(self, names: Iterable[str]) -> None:
        """Note the SHA-256 of files as they are now, for `sound`; the record is not saved yet."""
        known = self.record.setdefault("files", {})  # runs of before have none
        known |= {name: file_sha256(self.folder / name) for name in names}

    def drop_unsound(self) -> None:
        """Take away files that are not what was written, so that their stages are done again."""
        for name in list(self.record.get("files", {})):
            if not sound(self.folder, self.record, name):
                if (self.folder / name).is_file():
                    (self.folder / name).unlink()
                    self.note(
                        [f"{name} was not what had been written (SHA-256) and was made again."]
                    )
                del self.record["files"][name]

    def note(self, notes: Iterable[str]) -> None:
        self.record["notes"] += [note for note in notes if note not in self.record["notes"]]

    def save(self) -> None:
        write_json(self.folder / RECORD, self.record)


class Measuring(Work):
    """Work that has the operator, and perhaps only a part of the groups of documents, or workers.

    `groups` and `shift_groups` are the numbers of those that are measured here (None: all), `spread` is
    what computes them (None: this process).
    """

    def __init__(
        self,
        folder: Path,
        spec: AuditSpec,
        operator: Operator,
        record: dict[str, Any] | None,
        plan: dict[str, Any] | None = None,
        spread: Spread | None = None,
    ) -> None:
        super().__init__(folder, spec, record, plan)
        self.operator = operator
        self.spread = spread
        self.groups: tuple[int, ...] | None = None
        self.shift_groups: tuple[int, ...] | None = None

    def census(
        self,
        model: Model,
        material: Material,
        folder: Path,
        progress: Progress,
        only: tuple[int, ...] | None,
    ) -> None:
        """The tables of the effect documents of `material`, into `folder`."""
        from ..stages import census

        census(model, self.operator, material, self.spec, folder, progress, only, self.spread)
        self.note(getattr(self.spread, "notes", ()))  # of workers that were lost


def sound(folder: Path, record: dict[str, Any], name: str) -> bool:
    """Whether a file of the run is there and, where the record knows its SHA-256, what was written."""
    path = folder / name
    known = record.get("files", {}).get(name)
    return path.is_file() and (known is None or file_sha256(path) == known)
