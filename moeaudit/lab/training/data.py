"""The order in which a training run reads its text: fixed by the seed, addressable by step."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Int64, Integer

from moeaudit.errors import InputError

Tokens = Integer[np.ndarray, " _"]  # any length


class Mixture:
    """Equal parts of every domain, each read through without replacement, reshuffled every epoch.

    A domain's documents, each led by the boundary token, are joined into one endless stream.
    What a step reads depends on the seed and the step alone, so a resumed run reads on exactly
    where the interrupted one stopped.
    """

    def __init__(self, documents: dict[str, list[Tokens]], seed: int) -> None:
        empty = [d for d, texts in documents.items() if not sum(len(t) for t in texts)]
        if empty or not documents:
            raise InputError(
                f"The training text has no tokens in {empty or 'any domain'}. "
                "Every domain of the mixture needs some."
            )
        self.domains = sorted(documents)
        self._documents = documents
        self._seed = seed
        self._tokens = {d: sum(len(t) for t in texts) for d, texts in documents.items()}
        self._open: dict[str, tuple[int, Tokens, Tokens]] = {}

    def tokens(self, domain: str) -> int:
        """Tokens in one epoch of a domain."""
        return self._tokens[domain]

    def batch(self, step: int, rows: int, length: int) -> Int64[np.ndarray, "rows length_plus_1"]:
        """Rows of `length` inputs and the one target more; rows / domains consecutive ones each.

        `rows * length` must be the same at every step of a run: it says how far each step reads.
        """
        return self.read(step, rows, length)[0]

    def read(
        self, step: int, rows: int, length: int
    ) -> tuple[Int64[np.ndarray, "rows length_plus_1"], Int64[np.ndarray, "rows length_plus_1"]]:
        """The rows of `batch`, and for every token the number of the document it is of.

        Documents are numbered through all domains; one that is read again in a later epoch keeps its number.
        """
        share = self.rows_of_domain(rows)
        ids, document = (np.empty((rows, length + 1), dtype=np.int64) for _ in range(2))
        for d, domain in enumerate(self.domains):
            for r in range(share):
                start = (step * share + r) * length
                ids[d * share + r], document[d * share + r] = self._take(domain, start, length + 1)
        return ids, document

    def rows_of_domain(self, rows: int) -> int:
        """How many of `rows` each domain gets. Raises InputError where they cannot be shared equally."""
        share, rest = divmod(rows, len(self.domains))
        if rest or not share:
            raise InputError(
                f"{rows} rows cannot be shared equally among {len(self.domains)} domains. "
                "Use a multiple of the number of domains."
            )
        return share

    def beginning(self, domain: str, count: int) -> list[Tokens]:
        """The first `count` tokens read of a domain by document, nothing twice; all if fewer."""
        texts = self._documents[domain]
        out: list[Tokens] = []
        for i in self._order(domain, 0):
            if count <= 0:
                break
            out.append(texts[i][:count])
            count -= len(texts[i])
        return out

    def _order(self, domain: str, epoch: int) -> Int64[np.ndarray, " documents"]:
        # crc32 and not hash(): the latter differs from one process to the next
        random = np.random.default_rng([self._seed, zlib.crc32(domain.encode()), epoch])
        return random.permutation(len(self._documents[domain]))

    def _take(self, domain: str, start: int, count: int) -> tuple[Tokens, Tokens]:
        parts, size = [], self.tokens(domain)
        while count:
            epoch, offset = divmod(start, size)
            part = [stream[offset : offset + count] for stream in self._streams(domain, epoch)]
            parts.append(part)
            start, count = start + len(part[0]), count - len(part[0])
        ids, document = zip(*parts)
        return np.concatenate(ids), np.concatenate(document)

    def _streams(self, domain: str, epoch: int) -> tuple[Tokens, Tokens]:
        """An epoch of a domain: its tokens, and the number of each token's document."""
        if domain not in self._open or self._open[domain][0] != epoch:
            texts, order = self._documents[domain], self._order(domain, epoch)
            first = sum(len(self._documents[d]) for d in self.domains if d < domain)
            number = np.repeat(order + first, [len(texts[i]) for i in order])
            self._open[domain] = (epoch, np.concatenate([texts[i] for i in order]), number)
        return self._open[domain][1:]
