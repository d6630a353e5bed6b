"""The picture of luck: drawn from a run's tests by the page's own figure, whole without a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from analyses import null_band
from moeaudit.errors import InputError
from moeaudit.report.words.evidence import Evidence

SVG = "{http://www.w3.org/2000/svg}"


def table(**change) -> pd.DataFrame:
    rows = [
        {
            "outcome": "delta_nll", "metric": name, "role": role, "layer": layer, "n": 100,
            "documents": 20, "d_z": 0.02 * layer, "low": 0.0, "high": 0.05, "p": 0.5, "sesoi": 0.1,
            "p_adjusted": 0.5, "null_low": -0.03, "null_high": 0.04, "verdict": "inconclusive",
            "reason": None, "p_experts": 0.5, "p_experts_maxt": 0.5, "supports": None, **change,
        }
        for name, role in (("easy_ep", "metric"), ("reap", "metric"), ("random_score", "control"))
        for layer in (0, 1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_file_stands_alone_and_draws_a_band_for_every_cell():
    text = null_band.drawn(Evidence(table(), pd.DataFrame()), ["easy_ep"])
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    boxes = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "luck"]
    assert len(boxes) == 2 * 3  # one metric and the random score, three layers
    style = root.find(f"{SVG}style")
    assert style is not None and ".luck" in str(style.text)
    used = set(re.findall(r"var\((--[\w-]+)\)", str(style.text)))
    assert used <= set(re.findall(r"(--[\w-]+):", str(style.text)))
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_the_run_does_not_have_is_refused():
    with pytest.raises(InputError, match="no contrast of utilisation"):
        null_band.drawn(Evidence(table(), pd.DataFrame()), ["utilisation"])
    bare = table(null_low=float("nan"), null_high=float("nan"))
    with pytest.raises(InputError, match="no null bands"):
        null_band.drawn(Evidence(bare, pd.DataFrame()), ["reap"])
