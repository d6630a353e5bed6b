"""A plan: the whole question of an audit in a file of its own, hashed and dated before the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError, RunError
from moeaudit.frames.shown import paragraph, rows
from moeaudit.store.differences import told
from moeaudit.store.files import write_json
from moeaudit.version import __version__

from ..spec import AuditSpec, flat
from ..working.provenance import code_revision, now

FORMAT = "moeaudit-plan/1"
FIELDS = ("format", "frozen", "version", "code", "audit", "metrics", "protocol", "asked", "amends")


@dataclass(frozen=True, repr=False)
class Plan:
    """What was frozen. `record` is the file's content; `sha256` is of all of it but itself.

    `audit` is the run's spec (model, weights, documents by hash and number, layers, outcomes, smallest
    effect of interest, alpha, seed ...), `metrics` the names that are tested, `protocol` every setting
    of the statistics, `frozen` the time in UTC, `code` the commit, `asked` the options as they were
    given, `amends` the plan that this one replaces, what it changes and why.
    """

    record: dict[str, Any]

    @classmethod
    def settle(
        cls,
        spec: AuditSpec,
        *,
        asked: Mapping[str, Any] | None = None,
        amends: Plan | None = None,
        why: str | None = None,
    ) -> Plan:
        """A plan of `spec`, dated now. An amendment needs a reason, and must change something."""
        from moeaudit.observe.metrics import METRICS

        record: dict[str, Any] = {
            "format": FORMAT,
            "frozen": now(),
            "version": __version__,
            "code": code_revision(),
            "audit": spec.to_dict(),
            "metrics": list(spec.metrics or METRICS),
            "protocol": dataclasses.asdict(spec.recipe),
            "asked": dict(asked or {}),
            "amends": None,
        }
        record = json.loads(json.dumps(record, allow_nan=False))
        if amends is not None:
            if not (why or "").strip():
                raise InputError("An amendment needs a reason: say why the plan is changed (why=).")
            changes = cls(record).differences(amends)
            if not changes:
                raise InputError(
                    "The amendment changes nothing of the plan. Give the options that should be "
                    "different, or keep the plan."
                )
            record["amends"] = {
                "sha256": amends.sha256,
                "frozen": amends.record["frozen"],
                "why": str(why).strip(),
                "changes": [{"field": f, "was": was, "is": new} for f, new, was in changes],
            }
        return cls({**record, "sha256": _hash(record)})

    @classmethod
    def read(cls, path: Plan | str | Path) -> Plan:
        """Open a frozen file. Raises RunError if it is none, or was changed since it was frozen."""
        if isinstance(path, Plan):
            return path
        where = Path(path)
        try:
            record = json.loads(where.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{where} cannot be read as a plan ({error}). Give a file that "
                "`moeaudit plan --freeze FILE` wrote."
            ) from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise RunError(
                f"{where} is not a plan in the format {FORMAT}. Freeze one with `moeaudit plan`."
            )
        if missing := [name for name in (*FIELDS, "sha256") if name not in record]:
            raise RunError(f"{where} is not a whole plan: it has no {', '.join(missing)}.")
        if record["sha256"] != _hash(record):
            raise RunError(
                f"{where} was changed after it was frozen: its content has the SHA-256 "
                f"{_hash(record)[:12]}..., and it says {str(record['sha256'])[:12]}.... A frozen plan is not "
                "edited; freeze an amendment with `moeaudit plan --amend FILE --freeze NEW`."
            )
        return cls(record)

    def write(self, path: str | Path) -> Path:
        """Write the file. Raises RunError if there is one already: what is frozen stays."""
        where = Path(path)
        if where.exists():
            raise RunError(
                f"{where} exists, and a frozen plan is not written over. Choose another name; a change "
                "of that plan is an amendment (amend=) in a file of its own."
            )
        write_json(where, self.record)
        return where

    def __repr__(self) -> str:
        amends = self.record["amends"]
        after = "" if amends is None else f", which amends {amends['sha256'][:12]}: {amends['why']}"
        return (
            f"Plan {self.sha256[:12]} frozen {self.record['frozen']} (UTC): audit of {self.spec.model}, "
            f"{len(self.record['metrics'])} metrics, alpha {self.spec.alpha:g}{after}"
        )

    def _repr_html_(self) -> str:
        """The sentence, then every field of the question that was frozen."""
        return paragraph(repr(self)) + rows(flat(self.record["audit"]).items())

    @property
    def spec(self) -> AuditSpec:
        return AuditSpec.from_dict(self.record["audit"])

    @property
    def sha256(self) -> str:
        return self.record["sha256"]

    def differences(self, other: Plan) -> list[tuple[str, Any, Any]]:
        """What was frozen otherwise, as (field, value here, value in `other`)."""
        out = self.spec.differences(other.spec)
        out = [each for each in out if each[0] not in ("metrics", "protocol")]
        mine, theirs = self.record, other.record
        if mine["metrics"] != theirs["metrics"]:
            out.append(("metrics", mine["metrics"], theirs["metrics"]))
        one, two = flat(mine["protocol"]), flat(theirs["protocol"])
        said = {"sesoi", "alpha"}  # fields of the spec as well
        names = [name for name in dict.fromkeys([*one, *two]) if name not in said]
        both = [(f"protocol.{name}", one.get(name), two.get(name)) for name in names]
        return [*out, *(each for each in both if each[1] != each[2])]

    def require(self, spec: AuditSpec) -> None:
        """Raises RunError, naming each field, unless `spec` is what was planned."""
        found = self.differences(Plan.settle(spec))
        if found:
            what = told(found, "in the plan")
            raise RunError(
                f"This audit is not the one that was planned on {self.record['frozen']}: {what}. Nothing "
                "was written. Run what was planned, or freeze an amendment that says what changes and why "
                "(`moeaudit plan --amend FILE --freeze NEW`)."
            )

    def require_named(self, record: Mapping[str, Any], folder: Path) -> None:
        """Raises RunError if the run in `folder` was begun without this plan."""
        if (record.get("plan") or {}).get("sha256") != self.sha256:
            raise RunError(
                f"The run in {folder} was not begun under this plan ({self.sha256[:12]}). A plan comes "
                "before the run: choose another folder. `moeaudit check RUN FILE` says what of "
                "that run equals the plan."
            )

    @property
    def entry(self) -> dict[str, Any]:
        """What a run's record says of the plan that it follows."""
        return {
            "sha256": self.sha256,
            "frozen": self.record["frozen"],
            "amends": self.record["amends"],
        }


def _hash(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
