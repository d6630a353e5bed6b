"""`moeaudit audit MODEL`: the census, the tests, the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import default_out, parse_layers

if TYPE_CHECKING:
    from rich.console import Console

    from moeaudit.front import Run


def audit(
    model: Annotated[
        str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
    ],
    text: Annotated[
        Path | None,
        typer.Option(help="A folder of text files (sub-folder = domain) or a .jsonl file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: runs/MODEL]", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the HTML report here as well as in the run folder.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Decoder layers, such as 0,3-5.  [default: all MoE layers]")
    ] = None,
    documents: Annotated[
        int | None, typer.Option(help="Documents to measure effects on.  [default: 160]")
    ] = None,
    tokens: Annotated[
        int, typer.Option(help="Tokens read of each document, from its beginning; 0 for all.")
    ] = 128,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens the model reads at once; longer documents are cut."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    verify_rows: Annotated[
        int, typer.Option(help="Rows that each independent engine recomputes.")
    ] = 8,
) -> None:
    """Audit MODEL: remove every active expert of every token, one at a time, and test what
    routing metrics say about it. The same command resumes an interrupted run."""
    from moeaudit.front import audit as run_audit

    from .console import console
    from .progress import ConsoleProgress

    chosen = parse_layers(layers)
    folder = out or default_out(model)
    try:
        with ConsoleProgress(console(stderr=True)) as progress:
            run = run_audit(
                model,
                text,
                out=folder,
                layers=chosen,
                documents=documents,
                tokens=tokens,
                max_length=max_length,
                seed=seed,
                verify_rows=verify_rows,
                report=report,
                progress=progress,
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
    from moeaudit.report.words.answer import answer
    from moeaudit.report.words.evidence import read
    from moeaudit.report.words.summary import overall
    from moeaudit.report.words.words import checks

    from .console import say
    from .verdicts import verdict_table

    evidence = read(run.tests)
    said = answer(evidence, overall(run.effects), run.spec.model)
    say(screen, f"\n{said.headline}.", style="bold")
    for sentence in (*said.sentences, said.thin):
        say(screen, f"- {sentence}")
    screen.print()
    screen.print(verdict_table(evidence, screen.encoding))
    for check in checks(run):
        say(screen, f"{check['css']}: {check['text']}")
    say(screen, f"Engine: {run.record['engine']}")
    if run.alarm:
        say(screen, f"\n{run.alarm}", style="bold")
    say(screen, f"\nReport: {page}\nTables: {run.folder}")
