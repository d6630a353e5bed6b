"""What README and docs/results.md state of a default audit, counted from its run folder.

    moeaudit audit tiny-olmoe --out runs/tiny-olmoe
    python benchmarks/headline.py runs/tiny-olmoe --out docs/measured/audit-tiny-olmoe.json

docs/claims.toml names the numbers of the file, and a test holds the text against them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

WITHIN, ACROSS = "within-token contrast", "per-expert expected harm"
SHOWN = ("predictive", "present, size open", "present but below")
QUESTIONS = {"within": WITHIN, "across": ACROSS}
CELL = ["question", "outcome", "metric", "layer"]


def counts(rows: pd.DataFrame, column: str = "verdict") -> dict[str, int]:
    """How many rows have each verdict, and how many are shown at all."""
    found = {str(name): int(n) for name, n in rows[column].value_counts().items()}
    return {**found, "shown": sum(found.get(word, 0) for word in SHOWN)}


def median(values: pd.Series) -> float | None:
    kept = values.dropna()
    return None if kept.empty else float(kept.median())


def span(values: pd.Series) -> list[float]:
    return [float(values.min()), float(values.max())]


def _controls(tests: pd.DataFrame, outcome: str) -> dict[str, Any]:
    rows = tests[(tests["question"] == WITHIN) & (tests["outcome"] == outcome)]
    of = {
        name: rows[rows["metric"] == name]
        for name in ("heldout_causal", "gate_weight", "random_score")
    }
    metrics = rows[rows["role"] == "metric"]
    return {
        "oracle": span(of["heldout_causal"]["d_z"]),
        "gate_weight": span(of["gate_weight"]["d_z"]),
        "oracle_over_gate_weight": span(
            of["heldout_causal"].set_index("layer")["d_z"]
            / of["gate_weight"].set_index("layer")["d_z"]
        ),
        "median_of_oracle": median(metrics["of_oracle"]),
        "random_score_of_oracle": median(of["random_score"]["of_oracle"].abs()),
        "largest": float(metrics["d_z"].max()),
    }


def _of(rows: pd.DataFrame, question: str) -> dict[str, Any]:
    size = "d_z" if question == "within" else "rho"
    return {
        "cells": len(rows),
        "verdict": counts(rows),
        "these_experts": counts(rows, "verdict_these_experts"),
        "median": median(rows[size]),
        "median_ceiling": median(rows["ceiling"]),
    }


def _domains(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "differ": int((rows["p_holm"] < 0.05).sum()),
        "median_i2": median(rows["i2"]),
        "new_excludes_zero": int(((rows["new_low"] > 0) | (rows["new_high"] < 0)).sum()),
        "elsewhere": median(rows["elsewhere"]),
        "here": median(rows["here"]),
    }


def headline(run: Path) -> dict[str, Any]:
    """The numbers of one run. Raises OSError and KeyError for a folder that is no finished default audit."""
    record = json.loads((run / "audit.json").read_text("utf-8"))
    tests, shift, over, equal = (
        pd.read_parquet(run / f"{name}.parquet")
        for name in ("tests", "shift_tests", "across_domains", "equal_mass")
    )
    found: dict[str, Any] = {
        "command": "moeaudit audit tiny-olmoe --out runs/tiny-olmoe",
        "finished": record["finished"],
        **{name: record["summary"][name] for name in ("rows", "documents", "domains", "tokens")},
        "off_by": max(each["max_abs_delta_nll"] for each in record["verification"]),
    }
    for outcome in ("delta_nll", "kl"):
        part: dict[str, Any] = {"controls": _controls(tests, outcome)}
        for name, question in QUESTIONS.items():
            of = [
                each[
                    (each["question"] == question)
                    & (each["outcome"] == outcome)
                    & (each["role"] == "metric")
                ]
                for each in (tests, shift, over)
            ]
            mixture, away, domains = of
            both = mixture[CELL + ["verdict"]].merge(away[CELL + ["verdict"]], on=CELL)
            again = both["verdict_x"].isin(SHOWN) & both["verdict_y"].isin(SHOWN)
            part[name] = {
                **_of(mixture, name),
                "shift": _of(away, name),
                "shown_again": int(again.sum()),
                "domains": _domains(domains),
            }
        same = equal[(equal["outcome"] == outcome) & (equal["role"] == "metric")]
        part["equal_mass"] = {"cells": len(same), **counts(same, "verdict_these_experts")}
        found[outcome] = part
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.write_text(json.dumps(headline(asked.run), indent=1, allow_nan=False) + "\n", "utf-8")
    print(f"{asked.out} written.")


if __name__ == "__main__":
    main()
