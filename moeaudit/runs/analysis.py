"""The analysis of an audit, declared before its effects are computed and held against it after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moeaudit.errors import RunError
from moeaudit.frames import Frame

from .provenance import now
from .spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.stats import Spec

OUTCOMES = ("delta_nll", "kl")


def declare(experts: Frame, spec: AuditSpec, model: dict[str, Any]) -> Spec:
    """The tests that this audit will make: every distinct metric, in every layer, for each outcome."""
    from moeaudit.stats import freeze
    from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
    from moeaudit.stats.ranking.table import QUESTION as ACROSS

    return freeze(
        [str(name) for name in experts["metric"].unique()],
        list(spec.layers),
        outcomes=OUTCOMES,
        questions=(WITHIN, ACROSS),
        protocol=spec.protocol,
        seed=spec.seed,
        context={"audit": spec.hash, "weights": model.get("weights_sha256")},
    )


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
            "fact; give another --out for a new run."
        )
