"""The page's first sentence: what routing metrics are shown to know, or that there is too little to say."""

from __future__ import annotations

from moeaudit.stats.sizes.equivalence import BELOW, EQUIVALENT, NOT_ESTIMABLE, PREDICTIVE, REVERSED

from .evidence import Evidence, outcome_name
from .operator import OperatorWords


def headline(evidence: Evidence, said: OperatorWords) -> str:
    """One sentence, no stronger than the verdicts: what is found, from which size on, what is open."""
    return _found(evidence, said) + _open(evidence)


def _found(evidence: Evidence, said: OperatorWords) -> str:
    if little := _too_little(evidence):
        return little
    if set(evidence.outcomes) != {"delta_nll", "kl"}:
        return _any_headline(evidence)
    harm, disturbance = (_shown(evidence, o) for o in ("delta_nll", "kl"))
    if harm and disturbance:
        return (
            f"Routing metrics predict disturbance in {disturbance} and harm in {harm} of "
            f"{evidence.count('kl')} metric-by-layer contrasts{_from(evidence)}"
            if harm != disturbance
            else f"Routing metrics predict harm and disturbance in {harm} of "
            f"{evidence.count('kl')} metric-by-layer contrasts each{_from(evidence)}"
        )
    if disturbance:
        return (
            f"Routing metrics predict how much an expert's {said.one} disturbs in "
            f"{disturbance} of {evidence.count('kl')} contrasts{_from(evidence)}; of harm {_no_harm(evidence)}"
        )
    if harm:
        return (
            f"Routing metrics predict harm in {harm} of {evidence.count('delta_nll')} contrasts{_from(evidence)}, and "
            "none is shown to predict disturbance by an amount of interest"
        )
    found = [(o, evidence.present(o)) for o in ("delta_nll", "kl")]
    if any(n for _, n in found):
        parts = [f"{outcome_name(o).lower()} in {n} of {evidence.count(o)}" for o, n in found]
        return (
            f"Routing metrics are shown to say something of {' and of '.join(parts)} contrasts, on text like this, "
            f"and none is shown to point the right way by the size of interest{_wrong_way(evidence)}"
        )
    if any(_open_cells(evidence, o) for o in evidence.outcomes):
        return "No routing metric is shown to predict harm or disturbance, and not all is decided"
    return f"No routing metric predicts harm or disturbance by as much as {evidence.bound}, {_whom(evidence)}"


def _whom(evidence: Evidence) -> str:
    """Whom a claim that all are small speaks of."""
    rows = evidence.contrasts[evidence.contrasts["role"] == "metric"]
    both = "supports" in rows and rows["supports"].eq("experts of this layer").all()
    return "with experts as a sample too" if both else "for these experts"


def _wrong_way(evidence: Evidence) -> str:
    n = sum(evidence.count(o, REVERSED) for o in evidence.outcomes)
    return f"; {n} point the wrong way by more than it" if n else ""


def _open_cells(evidence: Evidence, outcome: str) -> int:
    """Cells that say nothing: undecided, or without a number."""
    return evidence.undecided(outcome) + evidence.count(outcome, NOT_ESTIMABLE)


def _from(evidence: Evidence) -> str:
    """From which size on "predict" is said, and of which text."""
    return f" by more than {evidence.bound}, on text like this"


def _open(evidence: Evidence) -> str:
    """How much is undecided behind a finding; nothing where the sentence says so itself."""
    total = sum(evidence.count(o) for o in evidence.outcomes)
    undecided = sum(evidence.undecided(o) for o in evidence.outcomes)
    shown = sum(evidence.present(o) for o in evidence.outcomes)
    if not undecided or not shown or 2 * undecided > total:
        return ""
    return f"; {undecided} of all {total} are undecided"


def _too_little(evidence: Evidence) -> str | None:
    """The headline where most contrasts are undecided: no finding stands in front of that."""
    total = sum(evidence.count(o) for o in evidence.outcomes)
    undecided = sum(_open_cells(evidence, o) for o in evidence.outcomes)
    if not total or 2 * undecided <= total:
        return None
    luck = sum(evidence.by_luck(o) for o in evidence.outcomes)
    what = "experts" if 2 * luck > undecided else "text"
    return (
        f"Too {'few experts' if what == 'experts' else 'little text'} to say what routing metrics know: "
        f"{undecided} of {total} contrasts are undecided"
    )


def _any_headline(evidence: Evidence) -> str:
    """The headline where other outcomes than harm and disturbance were tested."""
    parts = [
        f"{outcome_name(o).lower()} in {_shown(evidence, o)} of {evidence.count(o)}"
        for o in evidence.outcomes
    ]
    if any(_shown(evidence, o) for o in evidence.outcomes):
        return f"Routing metrics predict {' and '.join(parts)} metric-by-layer contrasts{_from(evidence)}"
    names = " or ".join(outcome_name(o).lower() for o in evidence.outcomes)
    some = [f"{evidence.present(o)} of {evidence.count(o)}" for o in evidence.outcomes]
    return (
        f"No routing metric is shown to predict {names}{_from(evidence)}; something is shown in "
        f"{' and '.join(some)} metric-by-layer contrasts"
    )


def _no_harm(evidence: Evidence) -> str:
    """How far the absence of predicted harm is itself shown."""
    total, present = evidence.count("delta_nll"), evidence.present("delta_nll")
    small = evidence.count("delta_nll", EQUIVALENT)
    small += evidence.count("delta_nll", BELOW)
    known = (
        f"something is shown in {present} of {total}" if present else "none is shown to know any"
    )
    if small == total:
        return f"{known}, and all {total} contrasts are below the size of interest"
    if small > total / 2:
        return f"{known}, {small} of {total} below the size of interest"
    return f"{known}, none shown to reach the size of interest" if present else known


def _shown(evidence: Evidence, outcome: str) -> int:
    return evidence.count(outcome, PREDICTIVE)
