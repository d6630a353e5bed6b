"""A finished (or started) run: its folder read back as tables, and a sentence about it."""

from __future__ import annotations

import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moeaudit.errors import RunError
from moeaudit.stats.record.shown import Contrasts
from moeaudit.store.files import read_table
from moeaudit.store.shards import Shards

from .elsewhere.domains import MEASURED
from .elsewhere.shift import ShiftTables
from .elsewhere.tables import FolderTables
from .spec import AuditSpec
from .stages import MASS
from .working.folder import read_record
from .working.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from moeaudit.frames import Frame
    from moeaudit.store.question import Question

R = TypeVar("R", bound="StoredRun")


class StoredRun(FolderTables):
    """The answer to one AuditSpec. Tables are read from the folder when first asked for.

    `tokens`: one row per audited position. `routing` and `effects`: one row per (document,
    position, layer, rank). `experts`: layer, expert, metric, value, measured on other documents.
    `tests`: one row per tested cell. `documents`: what was read, and in which role. `domains` and
    `across_domains`: the tests by domain, and what these say together (`moeaudit.by_domain`,
    `moeaudit.across_domains`); `experts_by_domain`: metrics measured in one domain and outside it.
    `equal_mass`: each metric's highest expert of a token against another of equal gate weight
    (`moeaudit.stats.equal_mass`); None for a run of an earlier version. `shift`: the same audit on
    text of other domains, or None. Effects are changes of the next token's loss, in nats.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self.spec = AuditSpec.from_dict(record["spec"])

    @classmethod
    def load(cls: type[R], folder: str | Path) -> R:
        """Open the folder of a finished run.

        Raises RunError if it holds no run, a damaged one, or one that was not finished.
        """
        path = Path(folder)
        record = read_record(path)
        if part := record.get("part"):
            raise RunError(
                f"{path} holds part {part['index']} of {part['of']} of a run, which has no tests of its own. Put the "
                "parts together with moeaudit merge, and give the folder that it wrote."
            )
        if record["status"] != "finished":
            raise RunError(
                f"The run in {path} was not finished. Run the same audit command again: it keeps "
                "what is there and computes the rest."
            )
        return cls(path, record)

    @property
    def question(self) -> Question:
        """What was done to the router's answers, and what was measured."""
        return self.spec.question

    @cached_property
    def routing(self) -> Frame:
        return Shards(self.folder / "routing").read()

    @cached_property
    def experts(self) -> Frame:
        return read_table(self.folder / "experts.parquet")

    @cached_property
    def tests(self) -> Frame:
        return Contrasts.of(read_table(self.folder / "tests.parquet"))

    @cached_property
    def equal_mass(self) -> Frame | None:
        path = self.folder / MASS
        return read_table(path) if path.is_file() else None

    @cached_property
    def vocabulary(self) -> Frame | None:
        """The text of every token id (token, text), which predictions are; None where the run has none."""
        path = self.folder / VOCABULARY
        return read_table(path) if path.is_file() else None

    @cached_property
    def experts_by_domain(self) -> Frame:
        return read_table(self.folder / f"{MEASURED}.parquet")

    @cached_property
    def shift(self) -> ShiftTables | None:
        return ShiftTables(self.folder, self.record) if self.spec.shift else None

    @property
    def verification(self) -> list[dict[str, Any]]:
        """One entry per engine: how many rows it recomputed and the largest differences found."""
        return self.record["verification"]

    @property
    def alarm(self) -> str | None:
        """Why the numbers should not be used as they are; None if verification went well."""
        other = [] if self.shift is None else self.shift.verification
        checked = [*self.verification, *other]
        failed = [v["engine"] for v in checked if not v["skipped"] and not v["agrees"]]
        if failed:
            return (
                f"Verification failed: {' and '.join(dict.fromkeys(failed))} disagree with the census by more than "
                "rounding explains. Do not use these numbers; please report this with audit.json."
            )
        if not any(v["n"] for v in self.verification):
            return "No engine could recompute any of these numbers: they are not verified."
        return None

    def __repr__(self) -> str:
        s = self.record["summary"]
        what = f"the operator {str(self.question)!r} ({self.question.scope})"
        if self.question.name == "zero":
            what = "one active expert for one token"
        sure = "; ".join(_check(v) for v in self.verification) or "not verified"
        return (
            f"Audit of {self.spec.model}: {s['rows']:,} {self.spec.unit} of {what}, in "
            f"{s['tokens']:,} tokens of {s['documents']:,} documents and "
            f"{len(self.spec.layers)} layers. They change the loss on the next token by "
            f"{s['mean_delta_nll']:+.4f} nats on average; {s['share_harmful']:.0%} of them raise it "
            f"and {s['share_flips']:.1%} change the top prediction. Checked: {sure}. "
            f"Tables: .effects, .tests, .experts, .routing, .tokens, .documents; folder {self.folder}."
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(str(key).replace('_', ' '))}</th>"
            f"<td>{html.escape(_short(value))}</td></tr>"
            for key, value in self.record["summary"].items()
        )
        return f"<p>{html.escape(repr(self))}</p><table>{rows}</table>"


def _check(entry: dict[str, Any]) -> str:
    if entry["skipped"]:
        return f"not by {entry['engine']} ({entry['skipped']})"
    worst = max(entry["max_abs_delta_nll"], entry["max_abs_kl"])
    return f"{entry['n']} rows by {entry['engine']} (largest difference {worst:.1e} nats)"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
