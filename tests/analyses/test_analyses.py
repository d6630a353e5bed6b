"""The analysis scripts run, small, and what they write adds up."""

import importlib
import sys

import numpy as np
import pandas as pd
import pytest

SMALL = ["--model", "tiny-olmoe", "--documents", "3", "--tokens", "16"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", str(tmp_path), *arguments])
        assert importlib.import_module(f"analyses.{name}").main() == 0
        return tmp_path

    return call


def test_routing_mediation(run):
    out = run("routing_mediation", *SMALL)
    table = pd.read_csv(out / "by_layer.csv")
    means = table[table["of"] == "mean"].pivot(index="layer", columns="series", values="value")
    assert list(means.index) == list(range(8)) and means.shape[1] == 4
    last = means.loc[7]
    np.testing.assert_allclose(last[[c for c in means if c != "own token, direct"]], 0, atol=1e-6)
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    page = (out / "page.html").read_text("utf-8")
    assert "<svg" in page and "nan" not in page


def test_operators_compared(run):
    out = run("operators_compared", *SMALL, "--held-out", "60")
    pairs = pd.read_csv(out / "agreement.csv")
    assert len(pairs) == 15 and pairs["spearman_removals"].between(-1, 1).all()
    assert (pairs["removals"] == pairs["removals"].iloc[0]).all()
    means = pd.read_csv(out / "by_layer.csv")
    assert len(means) == 8 * 6 and means["value"].notna().all()
    assert "Operators compared" in (out / "page.html").read_text("utf-8")
