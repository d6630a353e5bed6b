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
        self._open: dict[str, tuple[int, Tokens]] = {}

    def tokens(self, domain: str) -> int:
        """Tokens in one epoch of a domain."""
        return self._tokens[domain]

    def batch(self, step: int, rows: int, length: int) -> Int64[np.ndarray, "rows length_plus_1"]:
        """Rows of `length` inputs and the one target more; rows / domains consecutive ones each.

        `rows * length` must be the same at every step of a run: it says how far each step reads.
        """
        share, rest = divmod(rows, len(self.domains))
        if rest or not share:
            raise InputError(
                f"{rows} rows cannot be shared equally among {len(self.domains)} domains. "
                "Use a multiple of the number of domains."
            )
        out = np.empty((rows, length + 1), dtype=np.int64)
        for d, domain in enumerate(self.domains):
            for r in range(share):
                start = (step * share + r) * length
                out[d * share + r] = self._take(domain, start, length + 1)
        return out

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

    def _take(self, domain: str, start: int, count: int) -> Tokens:
        parts, size = [], self.tokens(domain)
        while count:
            epoch, offset = divmod(start, size)
            part = self._stream(domain, epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _stream(self, domain: str, epoch: int) -> Tokens:
        if domain not in self._open or self._open[domain][0] != epoch:
            texts, order = self._documents[domain], self._order(domain, epoch)
            self._open[domain] = (epoch, np.concatenate([texts[i] for i in order]))
        return self._open[domain][1]
