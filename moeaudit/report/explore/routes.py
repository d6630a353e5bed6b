"""The shown documents token by token: who was chosen in each layer, how strongly, and what removing it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moeaudit.frames import Frame

from .contexts import Words
from .numbers import short, shorts
from .sample import Sample
from .source import Tokens

DIGITS = 3


class Strings:
    """Texts that are used often, each once: a text's place in `texts`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._place: dict[str, int] = {}

    def of(self, text: str | None) -> int | None:
        if text is None:
            return None
        if text not in self._place:
            self._place[text] = len(self.texts)
            self.texts.append(text)
        return self._place[text]


def documents(
    rows: Mapping[str, np.ndarray],
    tokens: Tokens,
    sample: Sample,
    domains: list[str],
    known: Mapping[int, str],
    strings: Strings,
) -> list[dict[str, Any]]:
    """One entry a shown document. `rows` are its effects, in the order of the table."""
    table = tokens.table
    words = Words(table, known)
    out = []
    for document, end in sample.shown.items():
        inside = (table["document"] == document) & (table["position"] < end)
        places = np.flatnonzero(inside.to_numpy())
        mine = rows["document"] == document
        part = {name: values[mine] for name, values in rows.items()}
        at = np.searchsorted(places, tokens.rows(part["document"], part["position"]))
        said = table.iloc[places]
        out.append(
            {
                "document": document,
                "domain": domains.index(str(said["domain"].iloc[0])),
                "positions": [int(p) for p in said["position"]],
                "text": [str(text) for text in said["text"]],
                "next": words.following(int(places[-1])),
                "nll": _column(said, "nll"),
                "top": [strings.of(words.top(int(place))) for place in places],
                "p_top": _column(said, "confidence"),
                "correct": _column(said, "correct"),
                "layers": {
                    str(layer): _layer(part, at, layer, len(places), words, strings)
                    for layer in np.unique(part["layer"]).tolist()
                },
            }
        )
    return out


def _column(said: Frame, name: str) -> list[Any]:
    if name not in said:
        return [None] * len(said)
    return shorts(said[name].to_numpy(), DIGITS)


def _layer(
    rows: Mapping[str, np.ndarray],
    at: np.ndarray,
    layer: int,
    tokens: int,
    words: Words,
    strings: Strings,
) -> dict[str, Any]:
    """Lists of lists: the rows of each token, rank 0 first."""
    here = np.flatnonzero(rows["layer"] == layer)
    order = here[np.lexsort((rows["rank"][here], at[here]))]
    ends = np.searchsorted(at[order], np.arange(tokens + 1))

    def split(values: list[Any]) -> list[list[Any]]:
        return [values[a:b] for a, b in zip(ends[:-1], ends[1:])]

    columns: dict[str, Any] = {
        "expert": split(rows["expert"][order].tolist()),
        "weight": split([short(round(float(w), 4)) for w in rows["weight"][order]]),
        "delta_nll": split(shorts(rows["delta_nll"][order], DIGITS)),
        "kl": split(shorts(rows["kl"][order], DIGITS)),
        "flip": split(rows["flip"][order].astype(int).tolist()),
    }
    if "top" in rows:
        texts = [strings.of(words.text(token)) for token in rows["top"][order].tolist()]
        columns["top"] = split(texts)
    else:
        columns["top"] = None
    return columns
