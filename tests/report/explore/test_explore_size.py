"""The page of three million rows is light: what is explored is aggregated, and sampled rows are stated."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.report.explore.data import gathered
from moeaudit.report.explore.source import Source
from moeaudit.report.pages.explore import explorer, script, style
from moeaudit.report.pages.library import library
from moeaudit.report.pages.template import static
from moeaudit.report.words.operator import ZERO

LAYERS, EXPERTS, TOP_K = 16, 64, 8  # as OLMoE has
DOCUMENTS, TOKENS, DOMAINS, VOCABULARY = 192, 124, 8, 2_000
ROWS = DOCUMENTS * TOKENS * LAYERS * TOP_K
MOST = 10_000_000  # bytes


class Made:
    """Effects that are made a group of documents at a time, as shards are read."""

    rows = ROWS

    def frames(self, columns):
        for first in range(0, DOCUMENTS, 24):
            rng = np.random.default_rng(first)
            shape = (24, TOKENS, LAYERS, TOP_K)
            n = int(np.prod(shape))
            document, position, layer, rank = (each.ravel() for each in np.indices(shape))
            start = rng.integers(0, EXPERTS, n // TOP_K).repeat(TOP_K)
            harm = (0.01 * rng.standard_t(2.5, n)).astype("float32")
            values = {
                "document": (document + first).astype("int32"),
                "position": position.astype("int32"),
                "layer": layer.astype("int16"),
                "rank": rank.astype("int8"),
                "expert": ((start + 7 * rank) % EXPERTS).astype("int16"),
                "weight": rng.random(n, dtype="float32"),
                "delta_nll": harm,
                "kl": harm**2,
                "flip": harm > 0.03,
                "top": rng.integers(0, VOCABULARY, n, dtype="int32"),
            }
            yield pd.DataFrame({name: values[name] for name in columns})


def test_three_million_rows_are_told_in_less_than_ten_megabytes():
    rng = np.random.default_rng(0)
    document, position = (each.ravel() for each in np.indices((DOCUMENTS, TOKENS)))
    token = rng.integers(0, VOCABULARY, len(document))
    tokens = pd.DataFrame(
        {
            "document": document.astype("int32"),
            "domain": np.char.add("domain ", (document % DOMAINS).astype(str)),
            "position": position,
            "token": token,
            "text": np.char.add(" word", token.astype(str)),
            "target": rng.integers(0, VOCABULARY, len(document)),
            "nll": rng.gamma(1.2, 2.0, len(document)),
            "confidence": rng.random(len(document)),
            "correct": rng.random(len(document)) < 0.4,
            "top": rng.integers(0, VOCABULARY, len(document)),
        }
    )
    names = [f"{i}" for i in range(VOCABULARY)]
    source = Source(
        model="made up",
        operator="zero",
        effects=Made(),
        tokens=tokens,
        experts=dict.fromkeys(range(LAYERS), EXPERTS),
        columns=(
            "document",
            "position",
            "layer",
            "rank",
            "expert",
            "weight",
            "delta_nll",
            "kl",
            "flip",
            "top",
        ),
        strings={i: f" word{name}" for i, name in enumerate(names)},
    )
    found = gathered(source, 64_000)
    assert found["rows"] == ROWS >= 3_000_000 and sum(found["cells"]["n"]) == ROWS
    assert 10_000 < found["rows_shown"] < 80_000  # the others are aggregated ...
    assert "documents" in found["sample"]  # ... and what is shown of them is stated
    packed = explorer(found, ZERO).packed
    besides = [*library(), script(), style(), static("page.js"), static("style.css")]
    assert packed is not None
    assert len(packed) + sum(map(len, besides)) < MOST, len(packed)
