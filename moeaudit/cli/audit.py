"""`moeaudit audit MODEL`: the census, the tests, the report."""

# ruff: noqa: ARG001 -- the options are read together, from the context
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .asked import (
    Alpha,
    Context,
    Documents,
    Frozen,
    Layers,
    MaxLength,
    Metrics,
    NoShift,
    Operator,
    Outcome,
    Seed,
    Sesoi,
    Share,
    Shift,
    Text,
    Tokens,
    VerifyRows,
    asked_of,
    options_of,
)
from .options import Device, DeviceMap, Dtype, Experts, MaxMemory, Offload, default_out, placement

if TYPE_CHECKING:
    from rich.console import Console

    from moeaudit.front import Run


def audit(
    context: Context,
    model: Annotated[
        str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
    ],
    operator: Operator = "zero",
    outcome: Outcome = "delta_nll,kl",
    frozen_routing: Frozen = False,
    text: Text = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: runs/MODEL]", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the HTML report here as well as in the run folder.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A frozen plan: options that are not given are taken from it, and another audit than "
            "the planned one is refused.",
        ),
    ] = None,
    layers: Layers = None,
    documents: Documents = None,
    tokens: Tokens = 128,
    max_length: MaxLength = None,
    seed: Seed = 0,
    sesoi: Sesoi = None,
    alpha: Alpha = 0.05,
    metrics: Metrics = None,
    shift: Shift = None,
    no_shift: NoShift = False,
    share: Share = 1.0,
    verify_rows: VerifyRows = 8,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload: Offload = "auto",
) -> None:
    """Audit MODEL: remove every active expert of every token, one at a time (or edit the routing as
    --operator says), and test what routing metrics say about it. The same command resumes an
    interrupted run."""
    from moeaudit.front import audit as run_audit
    from moeaudit.runs.plans import Plan

    from .console import console
    from .progress import ConsoleProgress

    planned = None if plan is None else Plan.read(plan)
    asked = asked_of(context, {} if planned is None else planned.record["asked"])
    folder = out or default_out(model, asked["operator"])
    try:
        with ConsoleProgress(console(stderr=True)) as progress:
            run = run_audit(
                model,
                asked["text"],
                out=folder,
                plan=planned,
                report=report,
                progress=progress,
                device=device,
                dtype=asked["dtype"],
                experts_implementation=experts,
                **placement(device_map, max_memory, offload),
                **options_of(asked),
            )
    except KeyboardInterrupt:
        typer.echo(
            f"moeaudit: interrupted. What was finished is kept in {folder}; the same command "
            "continues from there.",
            err=True,
        )
        raise typer.Exit(130) from None
    show(run, console(), report or folder / "report.html")
    if run.alarm:
        raise typer.Exit(1)


def show(run: Run, screen: Console, page: Path) -> None:
    """The answer, the table of verdicts, the verification, and where the report is."""
    from moeaudit.report.page import said_of
    from moeaudit.report.words import where as domains
    from moeaudit.report.words.answer import answer
    from moeaudit.report.words.evidence import read
    from moeaudit.report.words.summary import limits_of, overall
    from moeaudit.report.words.words import checks

    from .console import say
    from .verdicts import verdict_table

    evidence, words = read(run.tests), said_of(run)
    whole = overall(run.shards, limits_of(run.question.share))
    said = answer(evidence, whole, run.spec.model, words)
    say(screen, f"\n{said.headline}.", style="bold")
    for sentence in (*said.sentences, said.thin):
        say(screen, f"- {sentence}")
    screen.print()
    if evidence.outcomes:
        screen.print(verdict_table(evidence, screen.encoding))
    for sentence in domains.sentences(run):
        say(screen, f"- {sentence}")
    for check in checks(run, words):
        say(screen, f"{check['css']}: {check['text']}")
    drift = run.record["drift"]
    ends = "" if drift is None else f"; rows without an edit end within {drift:.1e} nats"
    say(screen, f"Engine: {run.record['engine']}{ends}")
    for note in run.record["notes"]:
        say(screen, f"Note: {note}")
    if run.alarm:
        say(screen, f"\n{run.alarm}", style="bold")
    say(screen, f"\nReport: {page}\nTables: {run.folder}")
