"""One Parquet file of a table, written block by block, with what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError

if TYPE_CHECKING:
    from moeaudit.frames import Frame

# Where a frame (`attrs`) and a Parquet file (metadata) keep what the table says of itself.
KEY = "moeaudit"
ROWS = 500_000  # rows held in memory before they are written


class ShardWriter:
    """Takes the frames of one shard. `facts`, plain JSON values, go into the file's metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.facts: dict[str, Any] = {}
        self._held: list[Frame] = []
        self._held_rows = 0
        self._writer: Any = None

    def add(self, frame: Frame) -> None:
        """Take a frame; its own facts (`attrs`) replace those of an earlier one."""
        self.facts |= frame.attrs.get(KEY, {})
        self._held.append(frame)
        self._held_rows += len(frame)
        self.rows += len(frame)
        if self._held_rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        frame = self._held[0] if len(self._held) == 1 else pd.concat(self._held, ignore_index=True)
        # Facts have a key of their own; pyarrow would write attrs a second time.
        plain = pd.DataFrame(frame)
        table = pa.Table.from_pandas(plain, preserve_index=False)
        self._held, self._held_rows = [], 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        elif not set(table.schema.names) <= set(self._writer.schema.names):
            self._widen(table.schema)
        self._writer.write_table(_filled(table, self._writer.schema))

    def _widen(self, schema: Any) -> None:
        """Write what is there again, with the columns that only the newest rows have."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._writer.close()
        before = self.path.with_name(self.path.name + ".narrow")
        self.path.replace(before)
        try:
            source = pq.ParquetFile(before)
            old = source.schema_arrow.remove_metadata()
            unified = pa.schema([*old, *(f for f in schema if f.name not in old.names)])
            self._writer = pq.ParquetWriter(self.path, unified, compression="zstd")
            for number in range(source.num_row_groups):
                self._writer.write_table(_filled(source.read_row_group(number), unified))
            source.close()
        finally:
            before.unlink()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self._held and self._writer is None:
            raise RunError(
                f"Nothing was given to write to {self.path}: a shard has at least a frame."
            )
        if kind is None and self._held:
            self._flush()
        if self._writer is not None:
            if self.facts and kind is None:
                said = json.dumps(self.facts, ensure_ascii=False, allow_nan=False)
                self._writer.add_key_value_metadata({KEY: said})
            self._writer.close()


def shard_frame(path: Path, columns: list[str] | None = None) -> Frame:
    """The rows of one file, with its facts in `attrs`; of `columns`, those that it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            there = names if columns is None else [name for name in columns if name in names]
            frame = file.read(columns=there).to_pandas()[there]
    except (pa.ArrowException, OSError) as error:
        raise RunError(
            f"{path} cannot be read as Parquet ({error}). Delete it and run the same command again, "
            "which recomputes this shard only."
        ) from error
    if facts := facts_of(path):
        frame.attrs[KEY] = facts
    return frame


def shard_columns(path: Path) -> list[str]:
    """Names of the columns of one file."""
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def facts_of(path: Path) -> dict[str, Any]:
    """What one file says of itself; {} if it says nothing."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path).metadata or {}
    return json.loads(metadata.get(KEY.encode(), b"{}"))


def _filled(table: Any, schema: Any) -> Any:
    """The table with the columns of `schema`, null where it has none."""
    import pyarrow as pa

    if table.schema.names == schema.names:
        return table.cast(schema)
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
