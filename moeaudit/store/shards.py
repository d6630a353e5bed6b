"""Tables too large for memory, written one group of documents at a time, and read the same way.

A shard counts as finished only once the manifest names it, and the manifest is written after the
shard. So a process that was killed anywhere loses at most the shard it was working on, and the
same call goes on from there. The manifest also says what the whole table is of (`about`), and
what each file must hold (SHA-256).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError

from .differences import told
from .files import copied, file_sha256, read_table, replacing, write_json
from .shard import ShardWriter, facts_of, shard_columns, shard_frame

if TYPE_CHECKING:
    from moeaudit.frames import Frame

MANIFEST = "manifest.json"


class Shards:
    """The shards of one table: `folder/NNNNN.parquet` and `folder/manifest.json`.

    With `about`, plain JSON values that say what the table is of, the folder is new or holds the
    beginning of that very table; without it, the folder is taken as it is. `parts` is the number of
    shards of the whole table, where it is known.

    Raises RunError for a damaged manifest, and for a folder that is about something else, naming
    each field that differs.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any] | None = None, parts: int | None = None
    ) -> None:
        self.folder = folder
        self.manifest: dict[str, dict[str, Any]] = {}
        self.about: dict[str, Any] = {}
        self.parts = parts
        self._sound: dict[str, tuple[int, int]] = {}
        path = folder / MANIFEST
        if path.exists():
            self._load(path)
        if about is not None:
            asked = json.loads(json.dumps(about, allow_nan=False))
            if self.manifest:
                self._require(asked, parts)
            self.about, self.parts = asked, parts

    def _load(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.manifest = {
                name: {key: entry[key] for key in ("rows", "bytes", "sha256")}
                for name, entry in found["shards"].items()
            }
            self.about, self.parts = dict(found["about"]), found["parts"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} is damaged ({error}). Delete the folder {self.folder} and run the same "
                "command again: it recomputes this table."
            ) from error

    def _require(self, asked: dict[str, Any], parts: int | None) -> None:
        there, here = _flat(self.about | {"parts": self.parts}), _flat(asked | {"parts": parts})
        keys = dict.fromkeys([*there, *here])
        different = [key for key in keys if there.get(key) != here.get(key)]
        if different:
            what = told((key, there.get(key), here.get(key)) for key in different)
            raise RunError(
                f"{self.folder} holds the answer to another question: {what}. Nothing was written. "
                "Ask the same question to resume it, or choose another folder."
            )

    def has(self, number: int) -> bool:
        """Whether shard `number` is finished and its file still holds what was written."""
        return self._holds(_name(number))

    def _holds(self, name: str) -> bool:
        entry, path = self.manifest.get(name), self.folder / name
        if entry is None or not path.is_file():
            return False
        stat = path.stat()
        if stat.st_size != entry["bytes"]:
            return False
        seen = (stat.st_size, stat.st_mtime_ns)
        if self._sound.get(name) != seen:  # hashed once, as long as nobody touches it
            if file_sha256(path) != entry["sha256"]:
                return False
            self._sound[name] = seen
        return True

    def write(self, number: int, frame: Frame) -> None:
        """Write shard `number`, then say so in the manifest.

        What `frame.attrs["moeaudit"]` says of the frame goes into the file's own metadata.
        """
        with self.writing(number) as shard:
            shard.add(frame)

    @contextmanager
    def writing(self, number: int) -> Iterator[ShardWriter]:
        """A shard that takes its frames one by one, in bounded memory: `shard.add(frame)`.

        If the block is left by an exception, nothing of the shard is kept.
        """
        path = self.folder / _name(number)
        with replacing(path) as temporary:
            with ShardWriter(temporary) as shard:
                yield shard
            entry = {
                "rows": shard.rows,
                "bytes": temporary.stat().st_size,
                "sha256": file_sha256(temporary),
            }
        self._say(number, entry)

    def take(self, other: Shards, number: int) -> None:
        """Shard `number` of another folder, byte for byte. Raises RunError if it is not what was written."""
        name = _name(number)
        copied(other.folder / name, self.folder / name)
        entry = other.manifest[name]
        if file_sha256(self.folder / name) != entry["sha256"]:
            (self.folder / name).unlink()
            raise RunError(
                f"{other.folder / name} is damaged: its content is not what was written (SHA-256 of the "
                "manifest). Run the command that wrote it again, which recomputes this shard only."
            )
        self._say(number, entry)

    def _say(self, number: int, entry: dict[str, Any]) -> None:
        """Name a finished shard in the manifest, from where on it counts."""
        self.manifest = dict(sorted({**self.manifest, _name(number): entry}.items()))
        said = {"about": self.about, "parts": self.parts, "shards": self.manifest}
        write_json(self.folder / MANIFEST, said)

    @property
    def whole(self) -> bool:
        """Whether all shards are there and each is as the manifest says."""
        known = self.parts is None or len(self.manifest) == self.parts
        return bool(self.manifest) and known and all(self._holds(name) for name in self.manifest)

    @property
    def rows(self) -> int:
        """Rows in all finished shards."""
        return sum(entry["rows"] for entry in self.manifest.values())

    @property
    def columns(self) -> list[str]:
        """Names of the columns, of all shards together, without reading a row."""
        return list(dict.fromkeys(name for path in self._paths() for name in shard_columns(path)))

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What each finished shard says of itself, in order; {} for one that says nothing."""
        return [facts_of(path) for path in self._paths()]

    def frames(self, columns: list[str] | None = None) -> Iterator[Frame]:
        """The finished shards in order, a frame at a time: the documents of each are whole in it.

        Raises RunError for a table that is not finished, a shard that is not what was written, and
        columns that are nowhere.
        """
        if self.parts is not None and len(self.manifest) < self.parts:
            raise RunError(
                f"The table in {self.folder} is not finished: {len(self.manifest)} of {self.parts} shards are "
                "there. Make the same call again, which computes the rest."
            )
        self._require_columns(columns)
        for path in self._paths():
            yield shard_frame(path, columns)

    def read(self, columns: list[str] | None = None) -> Frame:
        """The whole table. Raises RunError if there is no shard, or as `frames` does."""
        import pandas as pd

        frames = list(self.frames(columns))
        if not frames:
            raise RunError(
                f"{self.folder} has no finished shard. Run the same audit command again to "
                "complete the run."
            )
        return pd.concat(frames, ignore_index=True)

    def _paths(self) -> Iterator[Path]:
        for name in self.manifest:
            if not (self.folder / name).is_file():
                read_table(self.folder / name)  # says that it is missing, and what to do
            if not self._holds(name):
                raise RunError(
                    f"{self.folder / name} is damaged: its content is not what was written (SHA-256 of "
                    "the manifest). Delete it and run the same command again, which recomputes this "
                    "shard only."
                )
            yield self.folder / name

    def _require_columns(self, columns: list[str] | None) -> None:
        if columns is None or not self.manifest:
            return
        there = self.columns
        if missing := [name for name in columns if name not in there]:
            raise RunError(
                f"The table in {self.folder} has no column {', '.join(missing)}; it has {', '.join(there)}."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name, so that a difference is named as closely as it can be."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        out |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return out


def _name(number: int) -> str:
    return f"{number:05d}.parquet"
