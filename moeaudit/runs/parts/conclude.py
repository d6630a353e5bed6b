"""From measured effects to the last table of a run: needs its folder and record, and no model."""

from __future__ import annotations

import shutil
from typing import Any

from moeaudit.causal.folder import EffectsFolder
from moeaudit.frames import Frame
from moeaudit.store.files import read_table, write_table
from moeaudit.store.shards import Shards

from .. import stages
from ..analysis import declared_in, marked, untested_table
from ..elsewhere import domains, shift
from ..progress import Progress
from ..working.provenance import now
from ..working.work import Work

MEASURES = ("experts.parquet", f"{domains.MEASURED}.parquet")
TESTS = "tests.parquet"


def tested_metrics(work: Work) -> Frame:
    """The metrics that the run tests: those asked for, each quantity once."""
    experts = read_table(work.folder / MEASURES[0])
    if work.spec.metrics:
        experts = experts[experts["metric"].isin(work.spec.metrics)].reset_index(drop=True)
    experts, twins = stages.distinct_metrics(experts)
    work.note(twins)
    return experts


def conclude(work: Work, experts: Frame, progress: Progress) -> dict[str, Any]:
    """Tests, tables by domain and the summary, from effects that are all there; the finished record."""
    folder, spec, untested = work.folder, work.spec, work.record["untested"]
    effects = EffectsFolder(Shards(folder / "effects"))
    with work.stage("statistics", TESTS) as todo:
        if todo and untested is not None:
            write_table(folder / TESTS, untested_table(spec, untested))
        elif todo:
            tests = stages.test_table(effects, experts, spec, progress, work.reasons(experts))
            write_table(folder / TESTS, marked(tests, declared_in(work.record)))
    with work.stage("equal mass", stages.MASS) as todo:
        if todo and untested is not None:
            write_table(folder / stages.MASS, untested_table(spec, untested))
        elif todo:
            write_table(folder / stages.MASS, stages.mass_table(effects, experts, spec, progress))
    stages.join_tokens(folder)
    work.seal([stages.TOKENS])
    shift.conclude_shift(work, experts, untested, progress)
    domains.run_domains(work, effects, experts, untested, progress)
    tokens = read_table(folder / stages.TOKENS)
    every = stages.possible(work.record, spec, tokens)
    work.record |= {
        "engine": effects.engine,
        "drift": effects.drift,
        "summary": stages.summary(effects.shards, tokens, every),
        "status": "finished",
        "finished": now(),
    }
    work.save()
    for place in (folder, folder / shift.FOLDER):
        shutil.rmtree(place / stages.PARTIAL, ignore_errors=True)
    return work.record
