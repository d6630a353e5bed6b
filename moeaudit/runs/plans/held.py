"""A finished run held against a plan, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import marked
from ..run import StoredRun
from ..spec import AuditSpec, flat
from ..stages import distinct_metrics
from .frozen import Plan

SAID = "said, not required"  # differs without making the run another one


def check_plan(run: StoredRun | str | Path, plan: Plan | str | Path) -> pd.DataFrame:
    """What of a run equals its plan, one row each: field, planned, found, equal, note.

    Held against the plan are the run's question, the metrics and settings that its tests were made with
    (read from the table of tests itself; so too for the tests in other domains, whose rows begin with
    "shift: "), how many documents its effects hold, and that it began after the plan was
    frozen. Whether the run names the plan, and the commit of the code, are said and not required (`note`).
    `attrs["kept"]` is True if all that is required is equal.

    Raises RunError for a folder without a finished run, or a plan that was changed since.
    """
    run = run if isinstance(run, StoredRun) else StoredRun.load(run)
    plan = Plan.read(plan)
    rows: list[dict[str, Any]] = []

    def add(field: str, planned: Any, found: Any, *, required: bool = True) -> None:
        equal = planned == found
        note = "" if equal or required else SAID
        rows.append(
            {"field": field, "planned": planned, "found": found, "equal": equal, "note": note}
        )

    begun = run.record["sessions"][0]["started"]
    frozen = plan.record["frozen"]
    add("frozen before the run", True, pd.Timestamp(frozen) <= pd.Timestamp(begun))
    add("record unchanged", AuditSpec.from_dict(run.record["spec"]).hash, run.record["spec_hash"])
    mine, theirs = plan.spec.named(), run.spec.named()
    for name in [n for n in dict.fromkeys([*mine, *theirs]) if n != "metrics"]:
        add(name, mine.get(name), theirs.get(name))
    planned = plan.spec.effect_documents
    add("documents in the effects", planned, int(run.tokens["document"].nunique()))
    _analysis(run, run.tests, run.record, plan, add)
    if run.shift is not None:

        def add_shift(field: str, planned: Any, found: Any) -> None:
            add(f"shift: {field}", planned, found)

        planned = plan.spec.shift_documents
        seen = int(run.shift.tokens["document"].nunique())
        add_shift("documents in the effects", planned, seen)
        _analysis(run, run.shift.tests, run.shift.record, plan, add_shift)
    named = (run.record.get("plan") or {}).get("sha256")
    add("plan named by the run", plan.sha256, named, required=False)
    code = run.record["sessions"][0]["code"]["commit"]
    add("code commit", plan.record["code"]["commit"], code, required=False)
    table = pd.DataFrame(rows)
    table.attrs["kept"] = bool((table["equal"] | (table["note"] != "")).all())
    return table


def _analysis(
    run: StoredRun, tests: pd.DataFrame, record: dict[str, Any], plan: Plan, add: Any
) -> None:
    """What a table of tests was made with, and whether they are the ones that its `record` declares."""
    from moeaudit.stats import Spec
    from moeaudit.stats.record.made import analyses

    if record.get("analysis") is None:
        add("tests", "tested", "not tested: " + str(tests["reason"].iloc[0]))
        return
    declared = Spec.from_json(json.dumps(record["analysis"]["spec"]))
    experts = run.experts[run.experts["metric"].isin(plan.record["metrics"])]
    planned = sorted(distinct_metrics(experts)[0]["metric"].astype(str).unique())
    add("metrics", planned, sorted(set(tests["metric"][tests["role"] == "metric"])))
    add("analysis unchanged", declared.hash, record["analysis"]["hash"])
    settings = flat(plan.record["protocol"])
    made = analyses(tests)
    for question in declared.questions:
        for outcome in plan.spec.tested:
            used = flat(made.get((question, outcome), {}).get("protocol", {}))
            differ = [name for name in settings if settings[name] != used.get(name)]
            what = {name: settings[name] for name in differ}
            add(f"settings, {question}, {outcome}", what, {name: used.get(name) for name in differ})
    again = marked(tests, declared)
    odd = again["differs"].dropna().unique()
    add("tests as declared", len(again), int((again["status"] == "confirmatory").sum()))
    for reason in odd:
        add("test differs", "", reason)
