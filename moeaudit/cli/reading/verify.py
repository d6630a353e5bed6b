"""`moeaudit verify RUN`: is a finished run whole, as it was written, and what its model really does?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..ending import NO
from ..options import Device
from ..terminal.document import Json, document
from ..terminal.examples import examples

if TYPE_CHECKING:
    from moeaudit.runs.working.intact import Checked
    from moeaudit.text import TokenizedCorpus

MARKS = {True: "ok     ", False: "FAILED ", None: "not    "}
RECOMPUTED = "recomputed"


@examples(
    "moeaudit verify runs/tiny-olmoe",
    "moeaudit verify runs/tiny-olmoe --rows 0",
    "moeaudit verify runs/mine --model ./my-checkpoint --rows 32 --json",
)
def verify(
    run: Annotated[Path, typer.Argument(help="A run folder that `moeaudit audit` finished.")],
    rows: Annotated[
        int,
        typer.Option(
            help="Effects that are recomputed the slow way, one full forward each; 0 reads files only.",
            min=0,
        ),
    ] = 8,
    model: Annotated[
        str | None,
        typer.Option(
            help="The audited model, where it is now.  [default: where it was, if that is a bundled model or a folder]"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What recomputes: hooks, nnsight or transformer_lens.")
    ] = "hooks",
    seed: Annotated[int, typer.Option(help="Of the choice of rows.", min=0)] = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Check a finished RUN: its record, the SHA-256 of every table and shard, columns, completeness, and a sample of
    rows recomputed by one full forward each, where the model is at hand. Says what was checked; exit status 1 where
    something is not as it should be."""
    from moeaudit.runs.working.folder import read_record
    from moeaudit.runs.working.intact import Checked, check_folder

    from ..terminal.console import console, say

    record = read_record(run)
    checks = check_folder(run)
    failed = [each for each in checks if each.passed is False]
    if rows and failed:
        why = "not recomputed, because the tables are not as they were written"
        checks.append(Checked(RECOMPUTED, None, why))
    elif rows:
        checks.append(_recomputed(run, record, rows, model, engine, seed, device))
    else:
        checks.append(Checked(RECOMPUTED, None, "no row was recomputed (--rows 0)"))
    failed = [each for each in checks if each.passed is False]
    if json:
        content = [{"check": c.what, "passed": c.passed, "says": c.said} for c in checks]
        document("verify", folder=run, passed=not failed, checks=content)
    else:
        screen = console()
        for each in checks:
            say(screen, f"{MARKS[each.passed]} {each.what}: {each.said}")
        say(screen, _verdict(run, failed, checks), style="bold")
    if failed:
        raise typer.Exit(NO)


def _verdict(run: Path, failed: list[Checked], checks: list[Checked]) -> str:
    if failed:
        return f"{run} is not as it should be: {', '.join(each.what for each in failed)}."
    slow = next(each for each in checks if each.what == RECOMPUTED)
    ends = ", and the rows that were recomputed agree" if slow.passed else "; no row was recomputed"
    return f"{run} is whole and as it was written{ends}."


def _recomputed(
    run: Path,
    record: dict[str, Any],
    rows: int,
    model: str | None,
    engine: str,
    seed: int,
    device: str | None,
) -> Checked:
    """A sample of rows by one full forward each, on the run's own tokens."""
    from moeaudit.runs.working.intact import Checked

    found = model or _at_hand(record["model"].get("source"))
    if found is None:
        why = (
            f"no row was recomputed: the model ({record['model'].get('source')}) is not at hand. Say where it is with "
            "--model"
        )
        return Checked(RECOMPUTED, None, why)
    from moeaudit.causal.check.verify import verify as recompute
    from moeaudit.causal.folder import effects
    from moeaudit.errors import MoeAuditError

    from ..options import load_model
    from ..terminal.console import console
    from ..terminal.progress import ConsoleProgress

    try:
        with ConsoleProgress(console(stderr=True)) as progress:
            progress.stage("loading", 1, "model")
            loaded = load_model(found, device, record["spec"]["dtype"], None)
            progress.advance(1)
            progress.stage("recomputing", rows, "rows")
            texts = read_again(run, record["spec"]["max_length"])
            seen = recompute(effects(run), loaded, rows, engine=engine, seed=seed, docs=texts)
            progress.advance(rows)
    except MoeAuditError as wrong:
        return Checked(RECOMPUTED, False, str(wrong))
    passed = None if seen.skipped is not None or seen.blind else seen.agrees
    return Checked(RECOMPUTED, passed, repr(seen))


def _at_hand(source: str | None) -> str | None:
    """Where the audited model is, if no network is needed to have it."""
    from moeaudit.models.bundled import bundled_models

    name = (source or "").removeprefix("bundled:")
    return name if name in bundled_models() or (name and Path(name).is_dir()) else None


def read_again(run: Path, max_length: int) -> TokenizedCorpus:
    """The chunks that a run read, from its table of tokens: each row has a token and the one after it.

    The last token of a chunk has no row of its own, so a chunk ends where positions do not follow.
    """
    import numpy as np

    from moeaudit.store.files import read_table
    from moeaudit.text.tokens import Chunk, TokenizedCorpus

    table = read_table(
        run / "tokens.parquet", ["document", "domain", "position", "token", "target"]
    )
    chunks = []
    for (which, domain), rows in table.groupby(["document", "domain"], sort=False):
        rows = rows.sort_values("position")
        at = rows["position"].to_numpy()
        cuts = np.flatnonzero(np.diff(at) != 1) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            ids = rows["token"].to_numpy()[part]
            last = rows["target"].to_numpy()[part[-1]]
            whole = np.append(ids, last).astype(np.int64)
            chunks.append(Chunk(int(which), str(domain), int(at[part[0]]), whole))
    return TokenizedCorpus(chunks, int(table["document"].nunique()), 0, max_length)
