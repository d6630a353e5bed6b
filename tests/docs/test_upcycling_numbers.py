"""The tables of docs/lab/upcycling.md are what the kept records say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lab" / "upcycling.md").read_text("utf-8")
REAL: dict[str, Any] = json.loads((DOCS / "measured" / "smollm2-moe.json").read_text("utf-8"))
SMALL: dict[str, Any] = json.loads(
    (DOCS / "measured" / "lab" / "upcycling.json").read_text("utf-8")
)["tables"]


def cells(key: str, under: str) -> list[str]:
    """The cells of the one row that begins with `key`, after the words `under`."""
    lines = PAGE[PAGE.index(under) :].splitlines()
    return next(
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|") and line.strip("|").split("|")[0].strip(" *") == key
    )


def limits(row: dict[str, Any], name: str, places: int, sign: str = "", times: int = 1) -> str:
    middle, low, high = (times * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    text = f"{middle:{sign}.{places}f} [{low:{sign}.{places}f}, {high:{sign}.{places}f}]"
    return text.replace("-", "−")


@pytest.mark.parametrize("row", REAL["experts"]["loss"], ids=lambda r: r["domain"])
def test_losses_of_the_trained_mixture(row):
    found = cells(row["domain"], "### Trained")
    assert found[1:4] == [str(row["documents"]), f"{row['nll_dense']:.3f}", f"{row['nll']:.3f}"]
    assert found[4] == limits(row, "difference", 3, "+")


@pytest.mark.parametrize("place", range(4))
def test_swaps_and_removals_of_its_layers(place):
    was, now = (REAL["experts"]["models"][name]["layers"][place] for name in ("copies", "trained"))
    found = cells(str(now["layer"]), "What another expert does")
    least, mean, most = (100 * x for x in now["distance"])
    share = {
        f"share{end}": now["stand_in"][end.strip("_") or "share"] for end in ("", "_low", "_high")
    }
    assert found[1] == f"{mean:.1f} % ({least:.1f} to {most:.1f})"
    assert found[2:4] == [limits(was["removed"], "kl", 3), limits(now["removed"], "kl", 3)]
    assert found[4] == limits(now["put"], "kl", 4)
    assert found[5].replace(" %", "") == limits(share, "share", 1, times=100)
    assert found[6:8] == [f"{100 * now[name]:.1f} %" for name in ("flips", "flips_put")]


@pytest.mark.parametrize("place", range(4))
def test_its_audit_by_layer(place):
    row = REAL["audit"]["by_layer"][place]
    found = cells(str(row["layer"]), "### The audit")
    assert found[1:4] == [
        f"{row['rows']:,}",
        limits(row, "delta_nll", 3, "+"),
        limits(row, "kl", 3),
    ]
    assert found[4:6] == [f"{100 * row[name]:.1f} %" for name in ("flip", "harmful")]


@pytest.mark.parametrize("arm", [row["arm"] for row in SMALL["losses"]])
def test_arms_of_the_analysis(arm):
    row = {
        name: next((r for r in SMALL[name] if r["arm"] == arm), None)
        for name in ("losses", "differences", "experts")
    }
    found = cells(arm, "The default run")
    assert found[1] == limits(row["losses"], "nll", 3)
    if arm != "dense":
        assert found[2] == limits(row["differences"], "difference", 4, "+")
        assert found[3:5] == [
            limits(row["experts"], "distance", 3),
            limits(row["experts"], "stand_in", 2),
        ]


def test_single_removals():
    for each in REAL["experts"]["looked_at"]:
        told = f"{each['removed'][0]['delta_nll']:+.2f} nats".replace("-", "−")
        place = f"| {each['layer']}, {each['expert']}, {each['gate']:.2f} |"
        (line,) = [x for x in PAGE.splitlines() if place in x and told in x]
        assert all(f"{put['delta_nll']:+.2f}".replace("-", "−") in line for put in each["put"])
