"""`ablate(out=)`: effects written to a folder as they are computed, and gone on with after a stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moeaudit.errors import RunError
from moeaudit.store.files import LOCK, TEMPORARY, locked
from moeaudit.store.shard import ROWS
from moeaudit.store.shards import MANIFEST, Shards

from .blocks import blocks, drawn_from, together
from .facts import Facts
from .folder import EffectsFolder

if TYPE_CHECKING:
    from moeaudit.text import Chunk, TokenizedCorpus

    from .walk.plan import WalkPlan

_DOCUMENTS = 8  # in one shard: what is lost at most when a process is killed


def streamed(
    plan: WalkPlan,
    texts: TokenizedCorpus,
    facts: Facts,
    folder: Path,
    progress: Callable[[int], None] | None,
) -> EffectsFolder:
    """The table as shards in `folder`, a group of documents each; finished ones are kept."""
    groups = list(_groups(texts, plan.rows))
    also = {"predictions": True} if plan.tops else {}
    about = facts.asked() | also | {"grouping": f"{_DOCUMENTS} documents or {ROWS} rows a shard"}
    _claim(folder)
    shards = Shards(folder, about, len(groups))
    if shards.whole:
        return EffectsFolder(shards)
    with locked(folder):
        _claim(folder)
        shards = Shards(folder, about, len(groups))
        for number, chunks in enumerate(groups):
            if shards.has(number):
                continue
            said: list[Facts] = []
            with shards.writing(number) as shard:
                for block in drawn_from(blocks(plan, chunks, progress), plan.sample):
                    shard.add(block.frame)
                    said.append(block.said(facts))
                shard.facts = together(said).to_dict()
    return EffectsFolder(shards)


def _claim(folder: Path) -> None:
    """Raise RunError if the folder holds anything but effects."""
    if not folder.exists() or (folder / MANIFEST).is_file():
        return
    # A process that was killed may leave a shard that no manifest names yet, and its own files.
    ours = ("00000.parquet", LOCK)
    odd = [
        p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith(TEMPORARY)
    ]
    if odd:
        raise RunError(
            f"'{folder}' exists, is not empty and holds no effects (it has {', '.join(sorted(odd)[:3])}). Effects are "
            "written to a new or empty folder, or to one where the same call began; choose another folder or "
            "remove this one."
        )


def _groups(texts: TokenizedCorpus, rows: int) -> Iterator[list[Chunk]]:
    """Chunks in groups of up to 8 documents that have up to half a million rows, one shard each."""
    held: list[Chunk] = []
    documents = held_rows = 0
    for _, chunks in itertools.groupby(texts.chunks, key=lambda chunk: chunk.document):
        document = list(chunks)
        more = rows * sum(len(chunk.ids) - 1 for chunk in document)
        if held and (documents == _DOCUMENTS or held_rows + more > ROWS):
            yield held
            held, documents, held_rows = [], 0, 0
        held = [*held, *document]
        documents, held_rows = documents + 1, held_rows + more
    yield held
