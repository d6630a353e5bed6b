"""What an audit is asked, as plain options, and its settling: nothing is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.causal.walk.several.sample import share_of
from moeaudit.errors import InputError

from ..operators import operator_of
from ..session import declared_of, outcomes_of, question, require_counts
from ..spec import ALPHA, TOKENS, AuditSpec

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.text.choice import Material

OPTIONS: dict[str, Any] = {
    "operator": None,
    "outcome": None,
    "frozen_routing": False,
    "layers": None,
    "documents": None,
    "tokens": TOKENS,
    "max_length": None,
    "seed": 0,
    "sesoi": None,
    "alpha": ALPHA,
    "metrics": None,
    "shift": None,
    "share": 1.0,
    "verify_rows": 8,
    "verify_engines": ("hooks", "nnsight"),
}


def settled(
    model: Any, docs: Any, options: dict[str, Any], loading: dict[str, Any], what: str = "A plan"
) -> tuple[Model, Material, AuditSpec, Operator]:
    """The loaded model, the documents, the frozen question and the operator that these options ask for.

    `options` are those of `OPTIONS`, `loading` those of `moeaudit.load`. Raises InputError for an option that
    `what` does not have, and what `moeaudit.audit` raises.
    """
    from moeaudit.models import load

    wrong = sorted(set(options) - set(OPTIONS))
    if wrong:
        raise InputError(f"{what} has no option {', '.join(wrong)}. It has {', '.join(OPTIONS)}.")
    given = OPTIONS | options
    named = given["metrics"]
    given["metrics"] = None if named is None else list(named)
    # Wrong words are refused before anything is loaded.
    declared_of(given["sesoi"], given["alpha"], given["metrics"], outcomes_of(given["outcome"])[0])
    if isinstance(given["operator"], str):
        operator_of(given["operator"])
    share_of(given["share"])
    counts = ("documents", "tokens", "max_length", "seed", "verify_rows", "verify_engines")
    require_counts(*(given[name] for name in counts))
    loaded = load(model, **loading)
    given["other"] = given.pop("shift")
    material, spec, made = question(loaded, docs, **given)
    return loaded, material, spec, made
