"""The front door: `audit`, `Run` and `calibration_audit`, which know both the runs and the report."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError, RunError
from moeaudit.frames.waiting import stages
from moeaudit.runs.progress import LogProgress, Progress
from moeaudit.runs.run import StoredRun
from moeaudit.runs.spec import ALPHA, TOKENS
from moeaudit.runs.working.folder import (
    check_report_path,
    claim,
    measured_dtype,
    read_record,
    require_folder,
    require_own_page,
)
from moeaudit.store.files import locked, require_place

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moeaudit.causal.operators import Operator
    from moeaudit.runs.plans import Plan


class Run(StoredRun):
    __doc__ = StoredRun.__doc__

    def report(self, path: str | Path | None = None) -> Path:
        """Write the run as one self-contained HTML page; by default `report.html` in the folder."""
        from moeaudit.report import write_report

        return write_report(self, self.folder / "report.html" if path is None else Path(path))

    def figures(self) -> dict[str, go.Figure]:
        """The report's figures as interactive plotly figures, for a notebook."""
        from moeaudit.report import plotly_figures

        return plotly_figures(self)


@cache
def _of_calibration() -> dict[str, Any]:
    """`CalibrationAudit` and `calibration_audit`, made when they are asked for: they need torch."""
    from moeaudit.runs.calibration.audit import CalibrationTables, measure_calibration

    class CalibrationAudit(CalibrationTables):
        __doc__ = CalibrationTables.__doc__
        __module__, __qualname__ = __name__, "CalibrationAudit"

        def report(self, path: str | Path) -> Path:
            """Write one self-contained HTML page."""
            from moeaudit.report.pages.calibration_audit import write_calibration_audit

            return write_calibration_audit(self, Path(path))

    @functools.wraps(measure_calibration)
    def calibration_audit(*args: Any, **kwargs: Any) -> CalibrationAudit:
        found = measure_calibration(*args, **kwargs)
        return CalibrationAudit(found.tables, found.record, found.conditions)

    return {"CalibrationAudit": CalibrationAudit, "calibration_audit": calibration_audit}


@cache
def _of_pruning() -> dict[str, Any]:
    """`PruneCurve` and `prune_curve`, made when they are asked for: they need torch."""
    from moeaudit.pruning.curve import prune_curve as measure
    from moeaudit.pruning.result import PruneCurve as Measured

    class PruneCurve(Measured):
        __doc__ = Measured.__doc__
        __module__, __qualname__ = __name__, "PruneCurve"

        def report(self, path: str | Path) -> Path:
            """Write the curve as one self-contained HTML page."""
            from moeaudit.report.pruning.page import write_pruning

            return write_pruning(self, Path(path))

    @functools.wraps(measure)
    def prune_curve(*args: Any, progress: Any = None, **kwargs: Any) -> PruneCurve:
        with stages(progress, LogProgress) as told:
            found = measure(*args, progress=told, **kwargs)
        return PruneCurve(**{name: getattr(found, name) for name in found.__dataclass_fields__})

    return {"PruneCurve": PruneCurve, "prune_curve": prune_curve}


def __getattr__(name: str) -> Any:
    for names, made in (
        (("CalibrationAudit", "calibration_audit"), _of_calibration),
        (("PruneCurve", "prune_curve"), _of_pruning),
    ):
        if name in names:
            return made()[name]
    raise AttributeError(f"module 'moeaudit.front' has no attribute {name!r}")


def audit(
    model: Any,
    docs: Any = None,
    *,
    out: str | Path,
    operator: Operator | str | None = None,
    outcome: str | Iterable[str] | None = None,
    frozen_routing: bool = False,
    layers: list[int] | None = None,
    documents: int | None = None,
    tokens: int = TOKENS,
    max_length: int | None = None,
    seed: int = 0,
    sesoi: str | float | int | None = None,
    alpha: float = ALPHA,
    metrics: Iterable[str] | None = None,
    plan: Plan | str | Path | None = None,
    shift: Any = None,
    share: Any = 1.0,
    verify_rows: int = 8,
    verify_engines: tuple[str, ...] = ("hooks", "nnsight"),
    executor: str | None = None,
    workers: int | None = None,
    report: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    device: str | None = None,
    dtype: Any = None,
    experts_implementation: str | None = None,
    device_map: Any = None,
    max_memory: Any = None,
    offload: str | None = "auto",
) -> Run:
    """Audit a model: the census of an operator's effects, tests of routing metrics, a report.

    Parameters
    ----------
    model
        Anything `moeaudit.load` takes: a bundled name, a folder, a hub id, a model object.
    docs
        None for the bundled corpus; else a Corpus, a folder or .jsonl file, a list of strings or
        of token arrays, or a datasets.Dataset. Metrics and effects use different documents.
    out
        The run folder. The same call resumes what is there; a finished run is returned as it is.
    operator
        What is done to the router's answer: an operator such as `Renormalize()`, or its word on the
        command line, such as "reroute" or "everywhere:zero"; `Zero()` if None. The words
        "mean-output" and "resample" collect what experts say from the metric documents. Where an
        operator's rows are not about one active expert each, the effects are measured, checked and
        shown, and routing metrics are not tested; `tests` says why.
    outcome
        Which outcomes the statistics test, one or several of "delta_nll", "abs_delta_nll", "kl",
        "flip", "delta_entropy", "delta_confidence", "delta_brier" (default: "delta_nll" and "kl").
    frozen_routing
        Layers above the edit keep the intact model's routing.
    layers
        Decoder layer indices; every MoE layer if None.
    documents
        How many documents the effects are measured on (default 160), balanced over domains.
    tokens
        How many tokens of each document are read, from its beginning; 0 reads whole documents.
    max_length
        Tokens that the model reads at once; longer documents are cut (default: what it can).
    sesoi
        The smallest effect of interest of the within-token contrast: 0.1 (in d_z), "0.01nats", or "50%harm"
        (a share of the layer's mean outcome). None: 0.01 nats, what pruning would notice (0.1 in d_z where
        an outcome is not in nats).
    alpha
        Error rate of a family of tests.
    metrics
        Which routing metrics are tested; all of them if None.
    plan
        A frozen plan (`plan`): refused, naming the field, if this is another audit.
    shift
        Text of other domains, audited beside (`run.shift`): a Corpus, a folder or .jsonl file, a list of
        strings, or "bundled". None: the bundled shift split beside the bundled corpus, nothing beside
        text of your own. False: nothing. 45 documents for 160 are taken, balanced over domains.
    executor
        "ray" spreads groups of documents over a Ray cluster (`moeaudit[ray]`); the tables are the same whatever
        the number of workers. None: this process.
    workers
        How many workers a cluster gives; as many as it has room for if None.
    share
        The part of all removals that is made: a stratified sample with known inclusion probabilities, drawn by
        `seed` (docs/methods/sampling.md). Numbers are then design-based estimates. 1 makes them all.
    report
        Where the HTML page goes as well; the folder always has `report.html`.
    force
        Whether `report` may write over the page of another run, which is refused otherwise.
    device, dtype, experts_implementation, device_map, max_memory, offload
        As for `moeaudit.load`; for a model that is to be loaded here.

    Raises
    ------
    ModelError, ContractError, InputError, RunError: before anything is written.
    """
    from moeaudit.runs.parts.executor import spread_of
    from moeaudit.runs.plans import Plan
    from moeaudit.runs.session import Session, complete
    from moeaudit.runs.working.asked import settled

    planned = None if plan is None else Plan.read(plan)
    if report is not None:
        check_report_path(Path(report))
    require_folder(Path(out))
    loading = {
        "device": device,
        "dtype": measured_dtype(model, dtype, Path(out), planned),
        "experts_implementation": experts_implementation,
        "device_map": device_map,
        "max_memory": max_memory,
        "offload": offload,
    }
    spread = spread_of(executor, workers, model, loading, progress or LogProgress())
    options = {
        "operator": operator,
        "outcome": outcome,
        "frozen_routing": frozen_routing,
        "layers": layers,
        "documents": documents,
        "tokens": tokens,
        "max_length": max_length,
        "seed": seed,
        "sesoi": sesoi,
        "alpha": alpha,
        "metrics": metrics,
        "shift": shift,
        "share": share,
        "verify_rows": verify_rows,
        "verify_engines": verify_engines,
    }
    loaded, material, spec, made = settled(model, docs, options, loading)
    if "precision" in loaded.provenance:
        loading["dtype"] = spec.dtype  # workers take what was measured here
    if planned is not None:
        planned.require(spec)
    if report is not None and not force:
        require_own_page(Path(report), spec.hash)
    folder = Path(out)
    record = claim(folder, spec)
    if planned is not None and record is not None:
        planned.require_named(record, folder)
    if record is None or not complete(folder, record):
        with locked(folder), stages(progress, LogProgress) as told:
            known, entry = claim(folder, spec), planned and planned.entry
            record = Session(folder, spec, made, known, entry, spread).run(loaded, material, told)
    return _shown(folder, report)


def _shown(folder: Path, report: str | Path | None) -> Run:
    """The finished run, with its page."""
    run = Run.load(folder)
    if not (folder / "report.html").exists():
        with locked(folder):  # which also clears what a process killed at this very step left
            run.report()
    if report is not None:
        run.report(report)
    return run


def merge(
    parts: Iterable[str | Path],
    *,
    out: str | Path,
    report: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Put the parts of a run together (`audit_part`, `moeaudit audit --shard i/n`): its tables, bit for bit those of
    the undivided run, its tests and its page. No model is loaded.

    Parameters
    ----------
    parts
        The folders of all parts.
    out
        A new folder for the run; the same call goes on with a merge that was interrupted.
    report
        Where the HTML page goes as well; the folder always has `report.html`.
    force
        Whether `report` may write over the page of another run, which is refused otherwise.

    Raises
    ------
    RunError: a folder that is no finished part, parts of different questions (naming the fields that differ), parts
    that overlap or are missing, damaged files, or another thing in `out`; before anything is written.
    """
    from moeaudit.runs.parts.merge import merge_parts

    if isinstance(parts, (str, Path)):
        raise InputError(
            f"parts = {str(parts)!r} is one folder; give a list of those of all parts."
        )
    if report is not None:
        check_report_path(Path(report))
        first = next(iter(parts := [Path(part) for part in parts]), None)
        if first is not None and not force:
            require_own_page(Path(report), read_record(first)["spec_hash"])
    with stages(progress, LogProgress) as told:
        merge_parts(parts, Path(out), told)
    return _shown(Path(out), report)


def plan(
    model: Any,
    docs: Any = None,
    *,
    path: str | Path,
    amend: Plan | str | Path | None = None,
    why: str | None = None,
    asked: dict[str, Any] | None = None,
    device: str | None = None,
    dtype: Any = None,
    experts_implementation: str | None = None,
    device_map: Any = None,
    max_memory: Any = None,
    offload: str | None = "auto",
    **options: Any,
) -> Plan:
    """Settle an audit before it is run, and freeze it into a file with SHA-256, UTC time and commit.

    Parameters
    ----------
    model, docs, device, dtype, experts_implementation, device_map, max_memory, offload
        As for `audit`.
    options
        Of `audit`: operator, outcome, frozen_routing, layers, documents, tokens, max_length, seed, sesoi,
        alpha, metrics, shift, share, verify_rows, verify_engines.
    path
        The new file; one that exists is not written over.
    amend, why
        The plan that this one replaces, and the reason; the new file says what it changes.
    asked
        Options to write down as they were given (the command line's own).

    Raises InputError, ModelError, RunError: before anything is written.
    """
    from moeaudit.runs.plans import Plan
    from moeaudit.runs.working.asked import settled

    before = None if amend is None else Plan.read(amend)
    if Path(path).exists():
        raise RunError(
            f"{path} exists, and a frozen plan is not written over. Choose another name."
        )
    require_place(Path(path), folder=False)
    loading = {
        "device": device,
        "dtype": dtype,
        "experts_implementation": experts_implementation,
        "device_map": device_map,
        "max_memory": max_memory,
        "offload": offload,
    }
    _, _, spec, _ = settled(model, docs, options, loading)
    frozen = Plan.settle(spec, asked=asked, amends=before, why=why)
    frozen.write(path)
    return frozen
