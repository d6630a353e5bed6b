"""The same audit on documents of other domains, in the folder `shift` of the run."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.frames import Frame
from moeaudit.store.files import read_table, write_table
from moeaudit.store.shards import Shards

from .. import stages
from ..analysis import declare, declared_in, freeze_in, marked, untested_table
from ..progress import Progress
from ..working.work import Measuring, Work, sound
from .domains import ACROSS, BY_DOMAIN, domain_tables, untested_domains
from .tables import FolderTables

if TYPE_CHECKING:
    from moeaudit.causal.folder import EffectsFolder
    from moeaudit.models import Model
    from moeaudit.text.choice import Material

FOLDER, TESTS, DOCUMENTS = "shift", "shift_tests.parquet", "documents.parquet"


class ShiftTables(FolderTables):
    """What the audit found in other domains: the tables of a run, read when first asked for.

    `tests` (also `shift_tests.parquet`): as `run.tests`, from the effects of these documents and the
    metrics of the run's own metric documents; `domains` and `across_domains`, `tokens`, `effects`,
    `documents` as those of the run. `summary` and `verification` are facts of the record.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder / FOLDER
        self._tests = folder / TESTS
        self.record = record["shift"]

    @cached_property
    def tests(self) -> Frame:
        return read_table(self._tests)

    @property
    def summary(self) -> dict[str, Any]:
        return self.record["summary"]

    @property
    def verification(self) -> list[dict[str, Any]]:
        return self.record["verification"]

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"The same audit in other domains: {s['rows']:,} effects in {s['tokens']:,} tokens of "
            f"{s['documents']:,} documents of {s['domains']} domains; mean change of the loss "
            f"{s['mean_delta_nll']:+.4f} nats. Tables: .tests, .domains, .across_domains, .effects, .tokens, "
            ".documents."
        )


def fields(material: Material) -> dict[str, Any]:
    """What the spec says of the text of other domains; nothing if there is none."""
    shift = material.shift
    if shift is None:
        return {}
    return {
        "shift": shift.source,
        "shift_text": shift.hash,
        "shift_documents": shift.read.n_documents,
    }


def whole(folder: Path, record: dict[str, Any]) -> bool:
    """Whether all files of the shift part are there and as they were written."""
    names = ("documents", "tokens", BY_DOMAIN, ACROSS)
    inside = folder / FOLDER
    return (
        sound(folder, record, TESTS)
        and all(sound(folder, record, f"{FOLDER}/{name}.parquet") for name in names)
        and all(Shards(inside / name).whole for name in ("routing", "effects"))
    )


class _Named:
    """Progress whose stages say that they are of the shift text."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.advance, self.note = progress.advance, progress.note

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self._progress.stage(f"{name}, other domains", total, unit, done)


def _effects(folder: Path) -> EffectsFolder:
    from moeaudit.causal.folder import (
        EffectsFolder,
    )  # brings torch, which reading a run does not need

    return EffectsFolder(Shards(folder / "effects"))


def freeze_shift(session: Work, material: Material, experts: Frame) -> None:
    """Declare the tests in other domains, as those of the run are, before there are effects."""
    if material.shift is not None:
        known = session.record.setdefault("shift", {})
        which = dict.fromkeys(chunk.document for chunk in material.shift.read.chunks)
        freeze_in(known, declare(experts, session.spec, session.record["model"], which))


def measure_shift(session: Measuring, model: Model, material: Material, progress: Progress) -> None:
    """Census and verification of the shift text; shards that are done are kept."""
    shift = material.shift
    if shift is None:
        return
    folder, told = session.folder / FOLDER, _Named(progress)
    here = replace(material, effect=shift.read)
    write_table(folder / DOCUMENTS, shift.documents)
    with session.stage("shift census"):
        session.census(model, here, folder, told, session.shift_groups)
    effects = _effects(folder)
    if not effects.rows:
        return  # a part of a run that has none of these documents
    with session.stage("shift verification"):
        session.record.setdefault("shift", {})["verification"] = stages.verify_all(
            model, session.operator, here, session.spec, effects, told
        )


def conclude_shift(session: Work, experts: Frame, untested: str | None, progress: Progress) -> None:
    """The tests of the shift text, from its effects and its declaration, kept once they are done."""
    spec, folder, told = session.spec, session.folder / FOLDER, _Named(progress)
    if not spec.shift:
        return
    known = session.record["shift"]
    stages.join_tokens(folder)
    session.seal(f"{FOLDER}/{name}" for name in (DOCUMENTS, stages.TOKENS))
    effects = _effects(folder)
    leaves = (TESTS, *(f"{FOLDER}/{name}.parquet" for name in (BY_DOMAIN, ACROSS)))
    with session.stage("shift statistics", *leaves) as todo:
        if todo and untested is not None:
            write_table(session.folder / TESTS, untested_table(spec, untested))
            untested_domains(folder, spec, untested)
        elif todo:
            tests = stages.test_table(effects, experts, spec, told, session.reasons(experts))
            write_table(session.folder / TESTS, marked(tests, declared_in(known)))
            domain_tables(folder, effects, experts, spec, told)
    tokens = read_table(folder / stages.TOKENS)
    every = stages.possible(session.record, spec, tokens)
    known["summary"] = stages.summary(effects.shards, tokens, every)
