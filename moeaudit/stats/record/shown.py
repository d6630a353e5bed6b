"""A table of contrasts that says what it found: verdicts counted in a sentence, the columns that matter below."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moeaudit.frames.said import Said

from ..sizes.equivalence import VERDICTS


class Contrasts(Said):
    """What `contrast` and `expert_harm` return: a DataFrame with every column of theirs, shown in short.

    Nothing but the display differs from pandas; `pandas.DataFrame(table)` shows all columns.
    """

    _needs = ("question", "outcome", "metric", "role", "layer", "verdict")
    _matters = (
        *("outcome", "metric", "role", "layer", "n_documents", "mean_difference"),
        *("d_z", "d_z_low", "d_z_high", "rho", "rho_low", "rho_high", "ceiling"),
        *("verdict", "supports", "reason", "too_few"),
    )

    @staticmethod
    def of(frame: pd.DataFrame) -> Contrasts:
        """The same rows, columns and `attrs`."""
        return Contrasts(frame).__finalize__(frame)  # type: ignore[return-value]

    def _sentence(self) -> str | None:
        plain: Any = pd.DataFrame(self)
        said = [
            _about(question, outcome, group)
            for (question, outcome), group in plain.groupby(["question", "outcome"], sort=False)
        ]
        return " ".join(said) or None


def _about(question: str, outcome: str, group: Any) -> str:
    metrics, controls = (group[group["role"] == role] for role in ("metric", "control"))
    said = f"{question} of {outcome} in {_count(group['layer'].nunique(), 'layer')}: "
    parts = []
    if len(metrics):
        names = _count(metrics["metric"].nunique(), "metric")
        parts.append(f"{_count(len(metrics), 'cell')} of {names}: {_verdicts(metrics)}")
    if len(controls):
        parts.append(f"controls, tested alike: {_verdicts(controls)}")
    return f"{said}{'; '.join(parts)}."


def _verdicts(rows: Any) -> str:
    found = rows["verdict"].value_counts()
    order = [*VERDICTS, *(name for name in found.index if name not in VERDICTS)]
    return ", ".join(f"{int(found[name])} {name}" for name in order if name in found)


def _count(n: int, name: str) -> str:
    return f"{n:,} {name}{'s' * (n != 1)}"
