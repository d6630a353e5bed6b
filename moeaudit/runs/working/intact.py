"""Is a finished run whole and as it was written? Read from its files alone: no model, no torch.

Each check is one sentence; `check_folder` makes all of them and stops at none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moeaudit.errors import MoeAuditError, RunError
from moeaudit.store.files import file_sha256, read_table
from moeaudit.store.shards import Shards
from moeaudit.version import __version__, digest

from ..elsewhere.shift import FOLDER as SHIFT
from ..spec import AuditSpec
from .folder import MARK, RECORD, read_record

PAGE = "report.html"
NO_DIGESTS = f"{RECORD} is of an earlier version and has no SHA-256 of the tables beside the shards"
# Columns without which a table is not what its name says; tables may have more.
COLUMNS = {
    "effects": ("document", "position", "layer", "rank", "expert", "weight", "delta_nll", "kl", "flip"),
    "routing": ("document", "position", "layer", "rank", "expert", "weight"),
    "tokens.parquet": ("document", "position", "token", "target", "nll"),
    "documents.parquet": ("role", "document", "domain"),
    "experts.parquet": ("layer", "expert", "metric", "value"),
    "tests.parquet": ("outcome", "metric", "verdict"),
}  # fmt: skip
KEYS = COLUMNS["effects"][:5]


@dataclass(frozen=True)
class Checked:
    """What was looked at, whether it is as it should be (None: it was not looked at), and a sentence."""

    what: str
    passed: bool | None
    said: str


def check_folder(folder: Path) -> list[Checked]:
    """Every check of a finished run that its files allow. Raises RunError where there is no record to begin with."""
    record = read_record(folder)
    parts: list[tuple[str, Callable[[], str | None]]] = [
        ("record", lambda: _record(record)),
        ("files", lambda: _files(folder, record)),
    ]
    places = [folder]
    if record["spec"].get("shift"):
        places.append(folder / SHIFT)
    for place in places:
        name = f"{SHIFT} " if place != folder else ""
        parts += [
            (f"{name}shards", lambda place=place: _shards(place)),
            (f"{name}columns", lambda place=place: _columns(place)),
            (f"{name}completeness", lambda place=place: _complete(place, folder, record)),
        ]
    parts.append(("its own verification", lambda: _verified(record)))
    return [*(_made(what, check) for what, check in parts), _page(folder, record)]


def _made(what: str, check: Callable[[], str | None]) -> Checked:
    try:
        said = check()
    except MoeAuditError as wrong:
        return Checked(what, False, str(wrong))
    return Checked(what, None if said is None else True, said or NO_DIGESTS)


def _record(record: dict[str, Any]) -> str:
    """Finished, of a question that this version reads, and with the hash that it had."""
    if part := record.get("part"):
        raise RunError(
            f"{RECORD} is of part {part['index']} of {part['of']} of a run; moeaudit merge puts parts together."
        )
    if record["status"] != "finished":
        raise RunError(
            f"{RECORD} says that the run is {record['status']}. Run the same audit command again, which goes on."
        )
    spec = AuditSpec.from_dict(record["spec"])
    if spec.hash != record["spec_hash"]:
        raise RunError(
            f"{RECORD} was changed: its question has the SHA-256 {spec.hash[:12]}, and {record['spec_hash'][:12]} was "
            "written when the run began."
        )
    return f"{RECORD}: finished, question {spec.hash[:12]}, {record['format']}"


def _files(folder: Path, record: dict[str, Any]) -> str | None:
    known = record.get("files", {})
    if not known:
        return None
    require_files(folder, record)
    return f"{len(known)} tables have the SHA-256 of the record"


def require_files(folder: Path, record: dict[str, Any]) -> None:
    """Raise RunError, naming the first file of the record that is missing or is not what was written."""
    for name, sha256 in record.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            raise RunError(
                f"{path} is missing. A finished run has it: run the same audit command again, which makes it anew."
            )
        if file_sha256(path) != sha256:
            raise RunError(
                f"{path} is not what was written (SHA-256 of {RECORD}). Run the same audit command again, which makes "
                "it anew, or restore the file."
            )


def require_whole(folder: Path) -> None:
    """Raise RunError, naming the file and what to do, for a run whose page cannot be written from what is there."""
    record = read_record(folder)
    require_files(folder, record)
    require_effects(folder)
    if record["spec"].get("shift"):
        require_effects(folder / SHIFT)


def require_effects(folder: Path) -> None:
    """Raise RunError for a run without effects, or whose effects are not all there."""
    shards = Shards(folder / "effects")
    if not shards.manifest or not shards.rows:
        raise RunError(
            f"{folder / 'effects'} holds no effects, and a finished run has them. Run the same audit command again, "
            "which computes what is missing."
        )


def _shards(place: Path) -> str:
    said = []
    for name in ("effects", "routing"):
        shards = Shards(place / name)
        if not shards.manifest:
            raise RunError(f"{place / name} holds no finished shard: it has no manifest.json.")
        if shards.parts is not None and len(shards.manifest) != shards.parts:
            raise RunError(
                f"{place / name} is incomplete: {len(shards.manifest)} of {shards.parts} shards are there."
            )
        for _ in shards.facts:  # each shard is opened, and held against its SHA-256
            pass
        said.append(f"{len(shards.manifest)} of {name} ({shards.rows:,} rows)")
    return f"shards with the SHA-256 of their manifests: {', '.join(said)}"


def _columns(place: Path) -> str:
    seen = 0
    for name, wanted in COLUMNS.items():
        path = place / name
        if name == "experts.parquet" and place.name == SHIFT:
            continue  # metrics are the run's own
        if name == "tests.parquet" and place.name == SHIFT:
            path = place.parent / "shift_tests.parquet"
        there = Shards(path).columns if path.suffix == "" else list(read_table(path).columns)
        if lacking := [column for column in wanted if column not in there]:
            raise RunError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(there)}.")
        seen += 1
    return f"{seen} tables have the columns of their kind"


def _complete(place: Path, folder: Path, record: dict[str, Any]) -> str:
    """Rows for every token that the table of tokens has, each once, in the numbers that the record says."""
    told = record["summary"] if place == folder else record.get("shift", {}).get("summary", {})
    tokens = read_table(place / "tokens.parquet", ["document", "position"])
    asked = AuditSpec.from_dict(record["spec"]).question
    rows, places, doubled, missing = 0, 0, 0, 0
    for frame in Shards(place / "effects").frames():
        rows += len(frame)
        cells = frame[["document", "position"]].drop_duplicates()
        places += len(cells)
        if asked.per_expert:  # other operators have several rows of one expert
            doubled += int(frame.duplicated([*KEYS]).sum())
        missing += int(frame[["delta_nll", "kl"]].isna().to_numpy().sum())
    counted = {"rows": rows, "tokens": len(tokens), "documents": int(tokens["document"].nunique())}
    if wrong := [
        f"{n} is {told.get(n)} there and {v} here" for n, v in counted.items() if told.get(n) != v
    ]:
        raise RunError(f"{RECORD} and the tables in {place} differ: {', '.join(wrong)}.")
    if asked.share == 1 and places != len(tokens):
        raise RunError(
            f"{place / 'effects'} has rows at {places:,} of {len(tokens):,} tokens; a census has rows at all of them."
        )
    if doubled:
        raise RunError(f"{place / 'effects'} has {doubled:,} rows twice.")
    if missing:
        raise RunError(f"{place / 'effects'} has {missing:,} effects that are no number.")
    return f"{rows:,} effects at {places:,} tokens of {counted['documents']:,} documents, none missing, none twice"


def _verified(record: dict[str, Any]) -> str:
    """What the audit itself found when it recomputed rows."""
    parts = [record["verification"], record.get("shift", {}).get("verification", [])]
    ran = [each for part in parts for each in part if not each["skipped"]]
    failed = [each["engine"] for each in ran if not each["agrees"]]
    if failed:
        raise RunError(
            f"the audit's own verification failed: {' and '.join(dict.fromkeys(failed))} disagree with the census."
        )
    if not ran:
        raise RunError("no engine could recompute any of these numbers when they were made.")
    # Each engine recomputes the same rows.
    rows = sum(max((e["n"] for e in part if not e["skipped"]), default=0) for part in parts)
    return f"{rows} rows were recomputed by {' and '.join(dict.fromkeys(each['engine'] for each in ran))}, and agree"


def _page(folder: Path, record: dict[str, Any]) -> Checked:
    why = _stale(folder, record)
    said = f"{PAGE} is of these tables and this version" if why is None else f"{PAGE} {why}"
    return Checked("page", True if why is None else None, said)


def stale_page(folder: Path) -> str | None:
    """Why the page of a run has to be written (again); None where it is of these tables and this version."""
    return _stale(folder, read_record(folder))


def _stale(folder: Path, record: dict[str, Any]) -> str | None:
    page = folder / PAGE
    if not page.is_file():
        return "is missing"
    text = page.read_text("utf-8", "replace")
    if record["spec_hash"] not in text:
        return "is the page of another run"
    # Between two releases the version is the same and the page's making is not.
    if f"{MARK} {__version__} {digest('report')}" not in text[:4096]:
        return "was written by another version"
    # The page says when the run was finished; a table that is made anew finishes it anew.
    return None if str(record.get("finished")) in text else "is of an earlier state of the tables"
