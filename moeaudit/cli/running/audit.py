"""`moeaudit audit MODEL`: the census, the tests, the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError

from ..asked import Context, asked_of, asking, loading_of, options_of
from ..ending import NO, stoppable
from ..options import Force, ModelName, default_out
from ..terminal.document import Json, document
from ..terminal.examples import examples

if TYPE_CHECKING:
    from moeaudit.front import Run


@examples(
    "moeaudit audit tiny-olmoe",
    "moeaudit audit tiny-olmoe --documents 24 --operator reroute",
    "moeaudit audit allenai/OLMoE-1B-7B-0924 --text my_texts/ --layers 0,7,15 --out runs/mine",
    "moeaudit audit tiny-olmoe --json > audit.json",
)
@asking
def audit(
    context: Context,
    model: ModelName,
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
    force: Force = False,
    json: Json = False,
) -> None:
    """Audit MODEL: remove every active expert of every token, one at a time (or edit the routing as
    --operator says), and test what routing metrics say about it. The same command resumes an
    interrupted run."""
    from moeaudit.front import audit as run_audit
    from moeaudit.runs.parts.division import read_part
    from moeaudit.runs.plans import Plan

    from ..terminal.console import console, say
    from ..terminal.progress import ConsoleProgress

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
        if json:
            document("audit", folder=part.folder, part=str(part.part), question=part.spec.hash)
        else:
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
            force=force,
            **given,
        )
    tell("audit", run, report or folder / "report.html", json)


def tell(command: str, run: Run, page: Path, json: bool) -> None:
    """The answer on stdout, and status 1 where the numbers failed their verification."""
    from ..terminal.answer import answered, show
    from ..terminal.console import console

    if json:
        document(command, **answered(run, page))
    else:
        show(run, console(), page)
    if run.alarm:
        raise typer.Exit(NO)
