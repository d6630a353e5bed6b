"""`moeaudit audit MODEL`: the census, the tests, the report."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError

from .asked import Context, asked_of, asking, loading_of, options_of
from .options import default_out

if TYPE_CHECKING:
    from rich.console import Console

    from moeaudit.front import Run


@asking
def audit(
    context: Context,
    model: Annotated[
        str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
    ],
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
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Measure the I-th of N parts only, such as 2/8; moeaudit merge puts parts together.",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(help="ray spreads the documents over a Ray cluster.  [default: this process]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Workers on the cluster.  [default: as many as it has room for]"),
    ] = None,
) -> None:
    """Audit MODEL: remove every active expert of every token, one at a time (or edit the routing as
    --operator says), and test what routing metrics say about it. The same command resumes an
    interrupted run."""
    from moeaudit.front import audit as run_audit
    from moeaudit.runs.parts.division import read_part
    from moeaudit.runs.plans import Plan

    from .terminal.console import console, say
    from .terminal.progress import ConsoleProgress

    planned = None if plan is None else Plan.read(plan)
    asked = asked_of(context, {} if planned is None else planned.record["asked"])
    folder = out or default_out(model, asked["operator"])
    given: dict[str, Any] = {"plan": planned, **loading_of(context, asked), **options_of(asked)}
    if shard is not None:
        from moeaudit.runs.parts.part import audit_part

        if what := [
            n
            for n, v in (("--executor", executor), ("--workers", workers), ("--report", report))
            if v
        ]:
            raise InputError(
                f"--shard measures a part of a run and takes no {' and no '.join(what)}: a part is one process, and "
                "moeaudit merge writes the page."
            )
        index, of = read_part(shard)
        folder = out or folder.with_name(f"{folder.name}--part-{index}-of-{of}")
        with stoppable(folder), ConsoleProgress(console(stderr=True)) as progress:
            part = audit_part(
                model, asked["text"], shard=shard, out=folder, progress=progress, **given
            )
        say(console(), repr(part))
        return
    with stoppable(folder), ConsoleProgress(console(stderr=True)) as progress:
        run = run_audit(
            model,
            asked["text"],
            out=folder,
            report=report,
            progress=progress,
            executor=executor,
            workers=workers,
            **given,
        )
    show(run, console(), report or folder / "report.html")
    if run.alarm:
        raise typer.Exit(1)


@contextmanager
def stoppable(folder: Path | None) -> Iterator[None]:
    """Ctrl-C, or a scheduler's SIGTERM, ends the command with a sentence and status 130, or 143.

    `folder` keeps what was finished; None where a command leaves nothing half-done.
    """

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        what = "ended by the system (SIGTERM)" if terminated else "interrupted"
        left = (
            "Nothing half-written was left; the same command begins anew."
            if folder is None
            else f"What was finished is kept in {folder}; the same command continues from there."
        )
        typer.echo(f"moeaudit: {what}. {left}", err=True)
        raise typer.Exit(143 if terminated else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the process is."""


def show(run: Run, screen: Console, page: Path) -> None:
    """The answer, the table of verdicts, the verification, and where the report is."""
    from moeaudit.report.page import said_of
    from moeaudit.report.words import where as domains
    from moeaudit.report.words.answer import answer
    from moeaudit.report.words.evidence import read
    from moeaudit.report.words.summary import limits_of, overall
    from moeaudit.report.words.words import checks

    from .terminal.console import say
    from .terminal.verdicts import verdict_table

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
