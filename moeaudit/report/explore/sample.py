"""Which documents are shown whole: some of every domain, drawn by a seed, as many as a page carries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moeaudit.frames import Column, Frame
from moeaudit.seeds import generator

from ..words.numbers import count, plural

ROWS = 64_000  # effects that are shown one by one; about 25 bytes each in the page
MOST_TOKENS, LEAST_TOKENS = 160, 32  # of a document


@dataclass(frozen=True)
class Sample:
    """`shown`: where each document is cut (positions below are shown). `said`: how they were drawn."""

    shown: dict[int, int]
    said: str


def sample(tokens: Frame, rows: int, seed: int, most: int = ROWS) -> Sample:
    """Documents that take turns over domains, in an order drawn by `seed`, until `most` effects are reached.

    Every domain gives one document first, shorter ones if need be (at least 32 tokens, or fewer domains).
    """
    per_token = max(1.0, rows / max(1, len(tokens)))
    sizes = tokens.groupby("document")["position"].agg(["size", "min"])
    domain_of = _domains(tokens)
    left = most / per_token
    length = int(np.clip(left / max(1, domain_of.nunique()), LEAST_TOKENS, MOST_TOKENS))
    shown: dict[int, int] = {}
    for turn in _turns(domain_of, seed):
        for document in turn:
            taken = min(length, int(sizes.loc[document, "size"]))
            if shown and taken > left:
                continue
            left -= taken
            shown[document] = int(sizes.loc[document, "min"]) + taken
        if left < LEAST_TOKENS:
            break
    shown = dict(sorted(shown.items()))
    return Sample(shown, _said(shown, tokens, sizes, domain_of, length, seed))


def whole_documents(tokens: Frame, rows: int, seed: int, most: int) -> np.ndarray:
    """Documents drawn in the same order, whole ones, until `most` effects are reached; all of a run that has fewer."""
    domain_of = _domains(tokens)
    order = np.array([document for turn in _turns(domain_of, seed) for document in turn])
    sizes = tokens.groupby("document").size().loc[order].to_numpy()
    reached = np.cumsum(sizes) * (rows / max(1, len(tokens)))
    return np.sort(order[: max(1, int((reached <= most).sum()))])


def _domains(tokens: Frame) -> Column:
    return tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)


def _turns(domain_of: Column, seed: int) -> Iterator[list[int]]:
    """All documents, one of each domain a turn; the order within a domain is drawn by `seed`."""
    queues = []
    for domain in dict.fromkeys(domain_of):
        mine = np.sort(domain_of.index[domain_of == domain].to_numpy())
        queues.append(generator(seed, "explore", domain).permutation(mine).tolist())
    for turn in itertools.zip_longest(*queues):
        yield [int(document) for document in turn if document is not None]


def _said(
    shown: dict[int, int], tokens: Frame, sizes: Frame, domain_of: Column, length: int, seed: int
) -> str:
    domains = len(set(domain_of[list(shown)]))
    every = len(set(domain_of))
    whole = len(sizes)
    if len(shown) == whole:
        said = f"All {plural(whole, 'document')} of the run are shown"
    else:
        said = (
            f"{count(len(shown))} of {plural(whole, 'document')} are shown: domains take turns "
            f"({domains} of {every} have some here), the order within each is drawn by seed {seed}"
        )
    cut = sum(
        end - int(sizes.loc[d, "min"]) < int(sizes.loc[d, "size"]) for d, end in shown.items()
    )
    if cut:
        said += f"; {count(cut)} of them to {plural(length, 'token')}"
    return f"{said}. Numbers of an expert are over all {count(len(tokens))} tokens."
