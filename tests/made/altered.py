"""A copy of a made-up run with another question, other effects or another model, for what reads two runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd


def copy(
    source: Path,
    folder: Path,
    *,
    spec: Mapping[str, Any] | None = None,
    question: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    effects: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    routing: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    documents: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> Path:
    """`source` copied to `folder`, with fields of the spec, its question and the record, and tables, changed."""
    from moeaudit.runs import AuditSpec
    from moeaudit.store.files import read_table, write_json, write_table
    from moeaudit.store.shards import Shards

    shutil.copytree(source, folder)
    for name, change in (("effects", effects), ("routing", routing)):
        if change is not None:
            table = Shards(folder / name).read()
            shutil.rmtree(folder / name)
            Shards(folder / name).write(0, change(table))
    if documents is not None:
        path = folder / "documents.parquet"
        write_table(path, documents(read_table(path)))
    said = json.loads((folder / "audit.json").read_text())
    said["spec"] |= dict(spec or {})
    said["spec"]["question"] |= dict(question or {})
    said |= dict(record or {})
    said["spec_hash"] = AuditSpec.from_dict(said["spec"]).hash
    write_json(folder / "audit.json", said)
    return folder
