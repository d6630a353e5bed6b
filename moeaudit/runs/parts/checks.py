"""Do these folders make one run? Every part once, of one question, and each file as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError, RunError
from moeaudit.store.differences import told

from ..spec import AuditSpec
from ..working.folder import RECORD, read_record
from .part import DONE, MeasuredPart, part_complete


@dataclass(frozen=True)
class Together:
    """The parts of one run, the first one first."""

    parts: list[MeasuredPart]

    @property
    def spec(self) -> AuditSpec:
        """The question of the run."""
        return self.parts[0].spec

    @property
    def n_shards(self) -> int:
        """Shards of all tables."""
        return 3 * (self.parts[0].part.n_effects + self.parts[0].part.n_shift)

    def told(self) -> dict[str, Any]:
        """What the record of the whole run takes from those of its parts."""
        records = [part.record for part in self.parts]
        first = records[0]
        kept = ("model", "protocol", "untested", "reasons", "analysis", "rows_per_token")
        out = {name: first[name] for name in kept if name in first}
        sessions = [each for record in records for each in record["sessions"]]
        out["sessions"] = sorted(sessions, key=lambda each: each["started"])
        out["merged"] = {"parts": len(records)}
        out["verification"] = checked(record.get("verification", []) for record in records)
        if self.spec.shift:
            known = [record.get("shift", {}) for record in records]
            out["shift"] = {k: v for k, v in known[0].items() if k == "analysis"}
            out["shift"]["verification"] = checked(each.get("verification", []) for each in known)
        measured = ("metrics", "census", "verification", "shift census", "shift verification")
        stages: dict[str, Any] = {}
        for name in measured:
            done = [r["stages"][name] for r in records if name in r["stages"]]
            if done:
                seconds = round(sum(each["seconds"] for each in done), 3)
                stages[name] = {"seconds": seconds, "done": max(each["done"] for each in done)}
        return out | {"stages": stages}

    def notes(self) -> list[str]:
        """The notes of all parts, and what is to be known of a run that was measured in parts."""
        notes = [note for part in self.parts for note in part.record["notes"]]
        n = len(self.parts)
        notes.append(
            f"Measured in {n} parts. The first declared the analysis before it measured its effects; the others "
            "measured theirs on their own, and no effects were read before all parts were put together."
        )
        for what, read in (("package versions", _packages), ("machines", _machines)):
            kinds = {read(session) for part in self.parts for session in part.record["sessions"]}
            if len(kinds) > 1:
                notes.append(
                    f"The parts ran on different {what} ({'; '.join(sorted(kinds))}); their rounding may "
                    "differ from that of one run."
                )
        return notes


def together(folders: list[Path]) -> Together:
    """The run that these folders are the parts of.

    Raises InputError for no folder; RunError for a folder that is no finished part, parts of different
    questions (naming the fields that differ), parts that overlap or are missing, and files that are not what was
    written.
    """
    if not folders:
        raise InputError("There is nothing to merge. Give the folders of all parts of a run.")
    parts = [_read(folder) for folder in folders]
    for part in parts[1:]:
        _require_one_question(parts[0], part)
    _require_each_once(parts)
    for part in parts:
        if not part_complete(part.folder, part.record):
            raise RunError(
                f"{part.folder} ({part.part}) lacks files, or has some that are not what was written (SHA-256). Run "
                "its command again: it measures again what is lost, and keeps the rest."
            )
    return Together(sorted(parts, key=lambda each: each.part.index))


def _read(folder: Path) -> MeasuredPart:
    record = read_record(folder)
    if "part" not in record:
        raise RunError(
            f"{folder} is a whole run and no part of one; there is nothing to merge it with. Parts are made by "
            "moeaudit audit --shard i/n."
        )
    try:
        found = MeasuredPart(folder, record)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise RunError(
            _damaged(folder, f"it does not say which part of what it is ({error!r})")
        ) from error
    if record["status"] != DONE:
        raise RunError(
            f"{folder} ({found.part}) was not finished. Run its command again: it keeps what is there and computes the "
            "rest."
        )
    if lacks := _lacks(record, found.part.first):
        raise RunError(
            _damaged(folder, f"it has no {', no '.join(lacks)}, which a finished part has")
        )
    return found


# What a finished part says, and the first one besides, which declared the analysis.
MEASURED = {"model": dict, "protocol": dict, "plan": dict | None, "untested": str | None}
DECLARED = {"reasons": dict, "analysis": dict}


def _lacks(record: dict[str, Any], first: bool) -> list[str]:
    """Fields of its record without which a part can be put together with no other."""
    untested = record.get("untested") is not None
    wanted = MEASURED | ({"reasons": dict} if first else {})
    wanted |= DECLARED if first and not untested else {}
    lacks = [k for k, kind in wanted.items() if k not in record or not isinstance(record[k], kind)]
    if first and not untested and record["spec"].get("shift"):
        known = record.get("shift")
        if not isinstance(known, dict) or not isinstance(known.get("analysis"), dict):
            lacks.append("analysis of other domains (shift)")
    said = ("packages", "started", "machine", "torch_threads", "cuda")
    if any(not isinstance(each, dict) or set(said) - set(each) for each in record["sessions"]):
        lacks.append("whole account of its sessions")
    return lacks


def _damaged(folder: Path, why: str) -> str:
    return (
        f"{folder / RECORD} is damaged: {why}. Nothing was written. Restore the file, or measure that part again into "
        "a new folder: moeaudit audit --shard i/n with the options of the others."
    )


def _require_one_question(one: MeasuredPart, two: MeasuredPart) -> None:
    different = one.spec.differences(two.spec)
    for name, mine, theirs in (
        ("parts", one.part.of, two.part.of),
        ("plan", *((each.record["plan"] or {}).get("sha256") for each in (one, two))),
    ):
        if mine != theirs:
            different = [*different, (name, mine, theirs)]
    if different:
        raise RunError(
            f"{one.folder} and {two.folder} are parts of different questions: {told(different)}. Nothing was written. "
            "Merge parts that were asked the same."
        )


def _require_each_once(parts: list[MeasuredPart]) -> None:
    seen: dict[int, Path] = {}
    for part in parts:
        if (index := part.part.index) in seen:
            raise RunError(
                f"{seen[index]} and {part.folder} overlap: both are {part.part}. Give each part once."
            )
        seen[index] = part.folder
    of = parts[0].part.of
    if missing := [str(i) for i in range(1, of + 1) if i not in seen]:
        raise RunError(
            f"Part {', '.join(missing)} of {of} is missing. Measure it with moeaudit audit --shard {missing[0]}/{of} "
            "and the options of the others, and give the folders of all parts."
        )


def checked(parts: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Verifications of parts by engine: rows add up, of differences the largest counts."""
    of: dict[str, list[dict[str, Any]]] = {}
    for entries in parts:
        for entry in entries:
            of.setdefault(entry["engine"], []).append(entry)
    out = []
    for entries in of.values():
        ran = [each for each in entries if each["skipped"] is None]
        worst = {
            name: max((each[name] for each in ran), default=None)
            for name in ("max_abs_delta_nll", "max_abs_kl")
        }
        out.append(
            max(entries, key=lambda each: each["tolerance"])
            | worst
            | {
                "n": sum(each["n"] for each in entries),
                "flips_differ": sum(each["flips_differ"] for each in entries),
                "tolerance": max(each["tolerance"] for each in entries),
                "agrees": all(each["agrees"] for each in ran or entries),
                "skipped": None if ran else entries[0]["skipped"],
            }
        )
    return out


def _packages(session: dict[str, Any]) -> str:
    return ", ".join(
        f"{k} {session['packages'].get(k)}" for k in ("moeaudit", "torch", "transformers")
    )


def _machines(session: dict[str, Any]) -> str:
    gpu = f", CUDA {session['cuda']}" if session["cuda"] else ""
    return f"{session['machine']}, {session['torch_threads']} thread(s){gpu}"
