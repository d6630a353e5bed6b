"""The analysis of an audit, declared before its effects are computed and held against it after."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError, RunError
from moeaudit.frames import Frame

from .spec import AuditSpec
from .working.provenance import now

if TYPE_CHECKING:
    from moeaudit.stats import Spec

# A row of tests.parquet that says why there is no test.
NOT_TESTED = "not tested"


def declare(
    experts: Frame, spec: AuditSpec, model: dict[str, Any], documents: Iterable[Any] | None = None
) -> Spec:
    """The tests that this audit will make: every distinct metric, in every layer, for each outcome.

    Metrics without any value are declared as what cannot be tested (`context`). Frozen too are the
    metrics' values and which `documents` the effects will be of (their number alone if None).
    """
    from moeaudit.stats import freeze
    from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
    from moeaudit.stats.ranking.table import QUESTION as ACROSS

    known = set(experts["metric"][experts["value"].notna()])
    absent = [str(name) for name in experts["metric"].unique() if name not in known]
    if not known:
        raise InputError(
            f"None of the metrics {', '.join(absent)} has a value for any expert, so there is nothing to "
            "test. Name others with metrics=, or leave it out for all."
        )
    context = {"audit": spec.hash, "weights": model.get("weights_sha256")}
    if absent:
        context["not estimable"] = ", ".join(absent)
    return freeze(
        experts,
        list(spec.layers),
        documents=spec.effect_documents if documents is None else documents,
        outcomes=spec.tested,
        questions=(WITHIN, ACROSS),
        protocol=spec.recipe,
        seed=spec.seed,
        context=context,
    )


def marked(tests: Frame, declared: Spec) -> Frame:
    """The tests with their `status`; rows of metrics declared as not estimable were declared, too."""
    from moeaudit.stats import mark

    absent = dict(declared.context).get("not estimable", "").split(", ")
    return mark(tests, declared, context=dict(declared.context), untestable=absent)


def untested_table(spec: AuditSpec, reason: str) -> Frame:
    """In place of the tests: one row for each question and outcome, with the reason."""
    import pandas as pd

    from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
    from moeaudit.stats.ranking.table import QUESTION as ACROSS

    rows = [
        {"question": question, "outcome": outcome, "verdict": NOT_TESTED, "reason": reason}
        for outcome in spec.tested
        for question in (WITHIN, ACROSS)
    ]
    return pd.DataFrame(rows)


def null_reasons(
    experts: Frame, columns: Mapping[str, str], n_domains: int, n_documents: int
) -> dict[str, str]:
    """Why a metric has no value for any expert, for each metric where that is so.

    `columns` gives the reasons why columns of the routing table are null.
    """
    from moeaudit.observe.vocabulary import MIN_COUNT

    known = {
        "easy_ep": columns.get("change"),
        "domain_mi": "the metric documents are of one domain" if n_domains < 2 else None,
        "activation_sd": "no expert was chosen by two tokens of the metric documents",
        "vocabulary_specialisation": (
            f"no token occurs {MIN_COUNT} times in the {n_documents} metric documents"
        ),
    }
    valued = set(experts["metric"][experts["value"].notna()])
    return {
        name: known.get(name) or "it has no value for any expert on the metric documents"
        for name in map(str, experts["metric"].unique())
        if name not in valued
    }


def declared_in(record: dict[str, Any]) -> Spec:
    """The declaration that a record holds. Raises RunError for one that is not what was frozen."""
    from moeaudit.stats import Spec

    before = record["analysis"]
    found = Spec.from_json(json.dumps(before["spec"]))
    if found.hash != before["hash"]:
        raise RunError(
            f"The declared analysis in this run's record has the hash {found.hash[:12]}, and {before['hash'][:12]} "
            "was frozen: the record was changed. Run the audit into a new folder."
        )
    return found


def freeze_in(record: dict[str, Any], declared: Spec) -> None:
    """Write the declaration into the run's record, or hold it against the one that is there.

    Raises RunError, naming what differs, if effects were computed under another declaration.
    """
    from moeaudit.stats import Spec

    before = record.get("analysis")
    if before is None:
        record["analysis"] = {
            "hash": declared.hash,
            "frozen": now(),
            "spec": json.loads(declared.to_json()),
        }
        return
    if before["hash"] != declared.hash:
        earlier = Spec.from_json(json.dumps(before["spec"]))
        fields = (
            ", ".join(name for name, *_ in earlier.differences(declared))
            or "the way it is written down"
        )
        raise RunError(
            f"This run froze its analysis on {before['frozen']}, before its effects were computed, and the "
            f"analysis asked for now differs in: {fields}. A declared analysis is not changed after the "
            "fact; choose another folder for a new run."
        )
