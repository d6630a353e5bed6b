"""Tables too large for memory, written one group of documents at a time.

A shard counts as finished only once the manifest names it, and the manifest is written after the
shard. So a run that was killed anywhere loses at most the shard it was working on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moeaudit.errors import RunError

from .files import read_table, write_json, write_table

if TYPE_CHECKING:
    from moeaudit.frames import Frame


class Shards:
    """The shards of one table: `folder/NNNNN.parquet` and `folder/manifest.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, dict[str, int]] = {}
        path = folder / "manifest.json"
        if path.exists():
            try:
                self.manifest = json.loads(path.read_text(encoding="utf-8"))["shards"]
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{path} is damaged ({error}). Delete the folder {folder} and run the same "
                    "audit command again: it recomputes this table."
                ) from error

    def has(self, number: int) -> bool:
        """Whether shard `number` is finished and its file is still what was written."""
        return self._holds(_name(number))

    def _holds(self, name: str) -> bool:
        entry = self.manifest.get(name)
        path = self.folder / name
        return entry is not None and path.is_file() and path.stat().st_size == entry["bytes"]

    def write(self, number: int, frame: Frame) -> None:
        """Write shard `number`, then say so in the manifest."""
        path = self.folder / _name(number)
        write_table(path, frame)
        entry = {"rows": len(frame), "bytes": path.stat().st_size}
        self.manifest = dict(sorted({**self.manifest, _name(number): entry}.items()))
        write_json(self.folder / "manifest.json", {"shards": self.manifest})

    @property
    def whole(self) -> bool:
        """Whether there are shards and each is as the manifest says."""
        return bool(self.manifest) and all(self._holds(name) for name in self.manifest)

    @property
    def rows(self) -> int:
        """Rows in all finished shards."""
        return sum(entry["rows"] for entry in self.manifest.values())

    def frames(self, columns: list[str] | None = None) -> Iterator[Frame]:
        """The finished shards in order, one at a time."""
        for name in self.manifest:
            yield read_table(self.folder / name, columns)

    def read(self, columns: list[str] | None = None) -> Frame:
        """The whole table. Raises RunError if there is no shard."""
        import pandas as pd

        frames = list(self.frames(columns))
        if not frames:
            raise RunError(
                f"{self.folder} has no finished shard. Run the same audit command again to "
                "complete the run."
            )
        return pd.concat(frames, ignore_index=True)


def _name(number: int) -> str:
    return f"{number:05d}.parquet"
