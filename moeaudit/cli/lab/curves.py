"""How a training is watched: the line of every stage, and the last numbers with the curves behind them."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from ..terminal.progress import ConsoleProgress

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24  # characters of a curve
SHOWN = {"nll": "loss", "global_balance": "balance", "entropy": "router entropy"}


class CurvesProgress(ConsoleProgress):
    """Progress that is also told the numbers of every step: loss, balance over the step, router entropy."""

    records: list[dict[str, Any]]

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self.records = []
        super().stage(name, total, unit, done)

    def measured(self, record: dict[str, Any]) -> None:
        """The record of a step, as `log.jsonl` has it."""
        self.records.append(record)

    def line(self) -> str:
        if not self.records or self.live is not None:
            return super().line()
        return f"{super().line()}; {self.numbers()}"

    def numbers(self) -> str:
        """`loss 4.212, balance 1.013, router entropy 2.310`; what a model without routers lacks is left out."""
        last = self.records[-1]
        said = [f"{word} {last[key]:.3f}" for key, word in SHOWN.items() if last[key] is not None]
        return ", ".join(said)

    def _show(self) -> None:
        if self.live is None or not self.records:
            super()._show()
            return
        lines = [self.line()]
        last, bars = self.records[-1], "utf" in (self.console.encoding or "").lower()
        for key, word in SHOWN.items():
            if last[key] is not None:
                drawn = curve([r[key] for r in self.records]) if bars else ""
                lines.append(f"  {word:<15}{last[key]:8.3f}  {drawn}")
        self.live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))


def curve(values: list[float]) -> str:
    """Numbers as a row of bars: means of equal parts, lowest to highest."""
    parts = min(_WIDTH, len(values))
    cut = [len(values) * i // parts for i in range(parts + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(cut, cut[1:])]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, int((m - low) / span * 8))] for m in means)
