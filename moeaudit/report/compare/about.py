"""What a comparison says of itself: what differs between the runs, how it was paired, judged, and what it leaves
open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..words.numbers import count, percent, plural

if TYPE_CHECKING:
    from .pairs import Pair
    from .result import Compared


def paired(compared: Compared) -> list[str]:
    """What differs between the runs, and how their documents stand to each other."""
    return [text for pair in compared.pairs for text in (_differ(pair), _paired(pair))]


def _differ(pair: Pair) -> str:
    a, b = pair.a, pair.b
    if not pair.asked.across:
        return (
            f"{a.letter} and {b.letter} answer the same question of the same model on the same tokens; they differ in "
            f"{pair.asked.what}."
        )
    text = f"{a.letter} ({a.name}) and {b.letter} ({b.name}) differ in {pair.asked.what}."
    if len(pair.asked.across) > 1:
        text += " What comes from which of these cannot be told."
    if "model" in pair.asked.across:
        text += " Each is one training: what is said is of these two models, not of their kinds."
    if (found := pair.correspondence) is not None and pair.cells:
        text += (
            f" Experts of one number are taken as the same: {percent(found.shared, 0)} of the active ones of "
            f"{a.letter} are active in {b.letter} for the same token ({percent(found.shuffled, 0)} if numbered anew, "
            f"p = {found.p:.3f})."
        )
    return text


def _paired(pair: Pair) -> str:
    only_a, both, only_b = pair.documents
    a, b = pair.a.letter, pair.b.letter
    if only_a == only_b == 0:
        tokens = "the same tokens" if pair.same_tokens else "in other tokens each"
        return (
            f"{a} and {b} read the same {plural(both, 'document')} ({tokens}): differences are paired by document, "
            "which is the sampling unit of every limit."
        )
    if both == 0:
        return (
            f"{a} and {b} read other documents ({count(only_a)} and {count(only_b)}, none in common): nothing is "
            "paired, the uncertainty of both sides adds, and a difference may come from the text."
        )
    return (
        f"{a} and {b} share {plural(both, 'document')}; {count(only_a)} and {count(only_b)} more are of one alone. "
        "Shared ones are paired, the others' uncertainty adds, and a part of a difference may come from the text."
    )


def samples(compared: Compared) -> list[str]:
    """What is to be known of runs that made a part of all removals."""
    sampled = [s for s in compared.sides if s.run.question.share != 1]
    if not sampled:
        return []
    said = ", ".join(f"{s.letter} {percent(s.run.question.share)}" for s in sampled)
    return [
        f"Sampled removals ({said}): each row stands for 1 / share of the census, alike for all rows of a run, so "
        "means are design-based estimates, and limits by document hold what the sample adds."
    ]


def method(compared: Compared) -> list[str]:
    """How differences were made and judged."""
    how = compared.how
    flipped = all(
        only_a == only_b == 0 for only_a, _, only_b in (p.documents for p in compared.pairs)
    )
    test = (
        "p comes from flipping the sign of whole documents in all places at once, and is corrected over the places "
        "of an outcome by step-down max-T (Westfall and Young 1993)."
        if flipped
        else "p is what the limits leave, corrected over the places of an outcome by Holm (1979), since documents "
        "that only one run read cannot be flipped."
    )
    sized = (
        "No smallest difference of interest was set, so sizes are not judged."
        if how.sesoi is None
        else f"That a difference is larger than {how.sesoi:g}, or that it is smaller, are tests of their own (two "
        "one-sided tests for smallness, Schuirmann 1987), corrected by Holm."
    )
    return [
        "A place (all rows, a third of the depth, a layer, an expert) has one mean in each run: the sum of its "
        "effects over the number of its rows. The difference is of these means.",
        f"Limits ({percent(how.level, 0)}) leave documents out in turn, of whichever run has read them: what the runs "
        "share by reading the same document is taken off by itself, and where they share none the uncertainty of "
        "both adds. They are Student's t, longer for heavy tails and on the side documents are skewed to.",
        test,
        sized,
        "A place with too few documents for a verdict, in either run or in what carries the difference, gets none.",
    ]


def limits(compared: Compared) -> list[str]:
    """What was not compared, and what is not claimed."""
    out = list(compared.not_compared)
    across = {name for pair in compared.pairs for name in pair.asked.across}
    if "model" in across:
        out.append(
            "Each model is one training. That two models differ is no statement about their architectures or "
            "recipes: that takes several trainings of each."
        )
    if "operator" in across:
        out.append(
            "Operators do different things to the model, all read on the loss and the prediction of the same next "
            "token: a difference says what the choice of the operator changes, not which of them is right."
        )
    out.append("Other text than what was read. Limits hold for documents like these.")
    if not compared.cells.empty:
        out.append(
            "Experts are fixed here: a difference of one expert is about that expert, and the largest of many is "
            "large partly by luck, which the corrected p allows for and the number itself does not."
        )
    return [*out, *samples(compared)]
