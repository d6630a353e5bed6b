"""Parts of a run put together: their shards as they are, and then everything that needs them all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moeaudit.errors import RunError
from moeaudit.store.files import copied, locked

from .. import stages
from ..elsewhere import shift
from ..progress import Progress
from ..session import complete
from ..working.folder import claim
from ..working.vocabulary import VOCABULARY
from ..working.work import Work
from .checks import Together, together
from .conclude import MEASURES, conclude, tested_metrics
from .part import MeasuredPart


def merge_parts(parts: Iterable[str | Path], folder: Path, progress: Progress) -> dict[str, Any]:
    """The run that the parts make, in `folder`; its record.

    Raises RunError, before anything is written, for parts that do not make one run (`checks.together`) and
    for a folder that holds anything else.
    """
    found = together([Path(part) for part in parts])
    if folder.resolve() in {part.folder.resolve() for part in found.parts}:
        raise RunError(f"{folder} is one of the parts. Choose a new folder (out=).")
    record = claim(folder, found.spec)
    if record is not None and complete(folder, record):
        return record
    with locked(folder):
        work = Work(folder, found.spec, claim(folder, found.spec), found.parts[0].record["plan"])
        return _put_together(work, found, progress)


def _put_together(work: Work, found: Together, progress: Progress) -> dict[str, Any]:
    work.drop_unsound()
    told, done = found.told(), work.record["stages"]
    work.record |= told | {"status": "running", "stages": told["stages"] | done}
    work.note(found.notes())
    work.save()
    with work.stage("merge"):
        progress.stage("merge", found.n_shards, "shards")
        for part in found.parts:
            _take(work, part, found, progress)
    return conclude(work, tested_metrics(work), progress)


def _take(work: Work, part: MeasuredPart, found: Together, progress: Progress) -> None:
    """Everything of one part that is not here yet, byte for byte."""
    places: tuple[tuple[str, tuple[int, ...], int], ...] = (
        ("", part.part.effects, part.part.n_effects),
        (shift.FOLDER, part.part.shift, part.part.n_shift),
    )
    for inside, numbers, total in places:
        theirs = stages.shards(part.folder / inside, found.spec, None)
        ours = stages.shards(work.folder / inside, found.spec, total)
        for name, store in ours.items():
            for number in numbers:
                if not store.has(number):
                    store.take(theirs[name], number)
                progress.advance(1)
    names = ["documents.parquet", *MEASURES] if part.part.first else []
    if names and (part.folder / VOCABULARY).is_file():
        names.append(VOCABULARY)
    if names and found.spec.shift:
        names.append(f"{shift.FOLDER}/{shift.DOCUMENTS}")
    for name in names:
        copied(part.folder / name, work.folder / name)
    work.seal(names)
