"""Whether the effects are larger than what rounding does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..words.numbers import count, percent, significant

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


def drift_words(run: StoredRun) -> str:
    """How many effects are larger than rounding; empty where nothing was measured of it."""
    drift = run.record.get("drift")
    if drift is None:
        return ""
    off, kind = _measured_rounding(run)
    rows = above = beyond = 0
    for frame in run.shards.frames(["delta_nll"]):
        size = frame["delta_nll"].abs()
        rows, above = rows + len(frame), above + int((size > drift).sum())
        beyond += 0 if off is None else int((size > off).sum())
    said = (
        f"Rows without an edit end within {significant(drift, 2)} nats of the intact model, which is rounding: "
        f"{count(above)} of {count(rows)} effects ({percent(above / max(rows, 1), 0)}) are larger than that."
    )
    if off is None:
        return said
    return (
        f"{said} Effects in {kind} are off by {significant(off, 2)} nats at the median from those in float32, "
        f"measured on a sample of removals when the model was loaded: {count(beyond)} of {count(rows)} "
        f"({percent(beyond / max(rows, 1), 0)}) are larger than that."
    )


def _measured_rounding(run: StoredRun) -> tuple[float | None, str]:
    """What an effect is off by in the half precision that the run computes in, where that was measured."""
    found = run.record["model"].get("precision") or {}
    kind = str(found.get("computes", ""))
    tried = (found.get("tried") or {}).get(kind) or {}
    return (None if kind == "float32" else tried.get("off")), kind
