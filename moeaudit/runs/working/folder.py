"""The run folder: whose it is and what may be written where. `audit.json` marks a folder as ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moeaudit.errors import RunError
from moeaudit.store.differences import told
from moeaudit.store.files import LOCK, TEMPORARY, require_place
from moeaudit.version import __version__

from ..spec import AuditSpec

FORMAT = "moeaudit-run/2"
RECORD = "audit.json"
# What every page of ours begins with, and no other file.
MARK = '<meta name="generator" content="moeaudit'


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a run folder's audit.json. Raises RunError if it is not one."""
    path = folder / RECORD
    if not folder.is_dir() or not path.is_file():
        raise RunError(
            f"{folder} is not a run folder: it has no {RECORD}. Give the folder that "
            "an audit wrote."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). The run folder is damaged; run the audit into a "
            "new folder."
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(_other_format(path, record))
    _require_fields(path, record)
    return record


def _other_format(path: Path, record: Any) -> str:
    """Why a file that is JSON is not a record that can be read here."""
    said = record.get("format") if isinstance(record, dict) else None
    name, _, number = str(said).partition("/")
    mine = FORMAT.partition("/")
    if name == mine[0] and number.isdigit() and int(number) > int(mine[2]):
        return (
            f"{path} is in the format {said}, and this moeaudit ({__version__}) reads {FORMAT}: a newer version wrote "
            "it. Read it with that version, or upgrade (pip install --upgrade moeaudit)."
        )
    return (
        f"{path} is not the record of a moeaudit run in the format {FORMAT}. Give a folder "
        "that this version of moeaudit wrote, or choose a new one."
    )


# What every record says from its first line on, and what it says besides once the run is finished.
BEGUN = {
    "spec": dict,
    "spec_hash": str,
    "status": str,
    "sessions": list,
    "stages": dict,
    "notes": list,
}
FINISHED = {"model": dict, "summary": dict, "verification": list, "engine": object, "drift": object}


def _require_fields(path: Path, record: dict[str, Any]) -> None:
    """Raise RunError, naming the field, for a record that was cut or changed by hand."""
    wanted: dict[str, type] = dict(BEGUN)
    if record.get("status") == "finished":
        wanted |= FINISHED
    wrong = [
        name
        for name, kind in wanted.items()
        if name not in record or not isinstance(record[name], kind)
    ]
    if wrong:
        raise RunError(
            f"{path} is damaged: it has no {', no '.join(wrong)}, which every record of a run has"
            f"{' that is finished' if not set(wrong) & set(BEGUN) else ''}. Restore the file, or run the audit into a "
            "new folder."
        )


def measured_dtype(model: Any, dtype: Any, folder: Path, planned: Any = None) -> Any:
    """`dtype`, or where none is given for a model to be loaded, what the frozen plan says, or what the run in `folder`
    chose by measurement, if it did: neither a plan nor resuming measures anything anew."""
    if dtype is not None or not isinstance(model, (str, Path)):
        return dtype
    if planned is not None:
        return planned.spec.dtype
    if not (folder / RECORD).is_file():
        return None
    record = read_record(folder)
    chosen = "precision" in (record.get("model") or {})
    return record["spec"]["dtype"] if chosen else None


def claim(
    folder: Path, spec: AuditSpec, part: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Check that `folder` may hold a run of `spec`, or the `part` of one: return its record, or None if it is new.

    Raises RunError, touching nothing, if the folder holds anything else, another question or another part.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, and a run is a folder. Choose another name.")
    if not folder.exists() or not (names := _content(folder)):
        return None
    if RECORD not in names:
        some = ", ".join(names[:3])
        raise RunError(
            f"{folder} is not empty and holds no moeaudit run (it has {some}). Nothing was "
            "written. Choose an empty or a new folder."
        )
    record = read_record(folder)
    different = AuditSpec.from_dict(record["spec"]).differences(spec)
    if different:
        raise RunError(
            f"{folder} holds the answer to another question: {told(different)}. Nothing was written. Ask the "
            "same question to resume it, or choose another folder."
        )
    there = record.get("part")
    if there != part:
        raise RunError(
            f"{folder} holds {_named(there)} and not {_named(part)} of this audit. Nothing was written. Choose another "
            "folder (out=); parts are put together by moeaudit merge."
        )
    return record


def _named(part: dict[str, Any] | None) -> str:
    return "the whole" if part is None else f"part {part['index']} of {part['of']}"


def require_folder(folder: Path) -> None:
    """Refuse a place where no run can be written, before anything is computed."""
    if not (folder / RECORD).is_file():
        require_place(folder, folder=True)


def _content(folder: Path) -> list[str]:
    """Names in the folder, less what a killed process may leave."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name != LOCK and not name.startswith(TEMPORARY)]


def check_report_path(path: Path) -> None:
    """Refuse a path that is a folder, a file that no report may replace, or where nothing can be written."""
    if path.is_dir():
        raise RunError(
            f"{path} is a folder; the report needs a file name, such as {path}/audit.html."
        )
    require_place(path, folder=False)
    if path.is_file():
        with path.open("rb") as handle:
            head = handle.read(4096)
        if head and MARK.encode() not in head:
            raise RunError(
                f"{path} exists and is not a report of moeaudit. Nothing was written. Choose "
                "another name for the report, or remove that file."
            )


def require_own_page(path: Path, question: str) -> None:
    """Refuse a page that is there and not of this run. `question` is the hash of its spec, which its page names."""
    if (
        path.is_file()
        and path.stat().st_size
        and question not in path.read_text("utf-8", "replace")
    ):
        raise RunError(
            f"{path} is the page of another run. Nothing was written. Choose another name for the report, or give "
            "--force (in Python force=True) to write over it."
        )
