"""The terms of the page, each explained where it first stands: hover, focus or tap; a list in print."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# term: (words it stands for in the text, what it means)
TERMS: dict[str, tuple[tuple[str, ...], str]] = {
    "expert": (
        ("active experts", "active expert", "experts", "expert"),
        "One of the small networks of a mixture-of-experts layer. The router picks a few of them for every token: "
        "these are active there.",
    ),
    "routing metric": (
        ("routing metrics", "routing metric", "metrics", "metric"),
        "One number an expert, read off the running model without removing anything: how often it is used, with "
        "what weight, how large its output is.",
    ),
    "harm": (
        ("harm",),
        "How much worse the true next token is predicted: the change of its negative log-likelihood, in nats. Below "
        "zero the edit helps.",
    ),
    "disturbance": (
        ("disturbance", "disturbs"),
        "How far the whole prediction moves, for better or worse: the KL divergence from the intact model's, in nats.",
    ),
    "nats": (
        ("nats",),
        "The unit of loss. 0.01 nats more loss on every token is 1% more perplexity; 0.69 nats halve the probability "
        "of the true token.",
    ),
    "contrast": (
        ("metric-by-layer contrasts", "contrasts", "contrast"),
        "One comparison, of one metric in one layer: within each token, the active expert with the highest metric "
        "against the one with the lowest.",
    ),
    "d_z": (
        ("d_z",),
        "The mean difference of a contrast, divided by how much it varies from token to token.",
    ),
    "predictive": (
        ("predictive",),
        "Shown, and larger than the size of interest, after correction for all contrasts.",
    ),
    "size of interest": (
        ("smallest effect of interest", "size of interest"),
        "The effect below which nobody would care, as this run declared it.",
    ),
    "undecided": (
        ("undecided", "inconclusive"),
        "Neither shown nor ruled out. It is no evidence of absence.",
    ),
    "shown absent": (
        ("shown absent", "equivalent to none"),
        "No effect is shown, and any there is would be smaller than the size of interest.",
    ),
    "present, size open": (
        ("present with their size open", "present, size open"),
        "There is an effect; whether it is above or below the size of interest is not shown.",
    ),
    "luck over experts": (
        ("luck over experts", "dealt to other experts", "with experts as a sample too"),
        "A layer has few experts, so a metric may fit them by chance. An effect counts only if the same numbers, "
        "dealt to the layer's experts at random, would seldom do as well.",
    ),
    "gate weight": (
        ("gate weight",),
        "How much of the mixture the router gives an expert at one token.",
    ),
    "rank correlation": (
        ("rank correlations", "rank correlation", "rho"),
        "Whether a metric puts a layer's experts in the same order as their mean harm: 1 is the same order, 0 is "
        "none, -1 the opposite.",
    ),
    "ceiling": (
        ("ceiling",),
        "About the rank correlation that a perfect metric would be seen to reach, since harm itself is known only "
        "roughly. An estimate, no bound.",
    ),
    "held out": (
        ("picked in one half of the documents", "held-out effect"),
        "The largest of many is large partly by luck. Picked in one half of the documents and read in the other, it "
        "is not.",
    ),
    "census": (
        ("census",),
        "Every active expert of every token and layer, one at a time; not a sample.",
    ),
    "flip": (
        ("flips", "flip", "top prediction"),
        "A flip: the most likely next token becomes another one.",
    ),
    "interval": (
        ("intervals", "interval"),
        "The numbers in square brackets: 95% limits. Documents are the sampling unit; limits made like these hold the "
        "value for text of this kind about 19 times in 20.",
    ),
}  # fmt: skip


class Explained:
    """Marks each term where it first stands in what is written through it, in the order of writing."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._of = {word: term for term, (words, _) in TERMS.items() for word in words}
        longest = sorted(self._of, key=len, reverse=True)
        self._words = re.compile(rf"\b({'|'.join(map(re.escape, longest))})\b", re.IGNORECASE)

    def __call__(self, text: object) -> Markup:
        """The text, escaped, with terms not seen before as elements that explain themselves."""
        parts, at, words = [], 0, str(text)
        for found in self._words.finditer(words):
            term = self._of[found[0].lower()]
            if term not in self.seen:
                self.seen.append(term)
                parts += [escape(words[at : found.start()]), self._element(term, found[0])]
                at = found.end()
        parts.append(escape(words[at:]))
        return _signs(Markup("").join(parts))

    def _element(self, term: str, word: str) -> Markup:
        anchor = "term-" + re.sub(r"[\W_]+", "-", term)
        return Markup(
            '<span class="term" tabindex="0" role="note" aria-describedby="{0}">{1}'
            '<span class="gloss" role="tooltip" id="{0}"><b>{2}</b> {3}</span></span>'
        ).format(anchor, word, term.capitalize() if term != "d_z" else term, TERMS[term][1])

    def list(self) -> list[tuple[Markup, str]]:
        """The terms seen so far, in the order of the alphabet, with what they mean."""
        return [(_signs(escape(t)), TERMS[t][1]) for t in sorted(self.seen)]


def _signs(text: Markup) -> Markup:
    return Markup(str(text).replace("d_z", "<i>d</i><sub>z</sub>"))
