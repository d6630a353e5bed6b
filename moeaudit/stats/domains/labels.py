"""Which domain each document is of, and which of them have documents enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from moeaudit.errors import InputError
from moeaudit.frames import Frame

from ..least import DOCUMENTS_PER_DOMAIN


@dataclass(frozen=True)
class Labels:
    """`names` of the domains in order of appearance, and the place of each document's among them."""

    names: list[str]
    code: Int[np.ndarray, " documents"]

    @classmethod
    def of(cls, domains: Any, documents: Sequence[Any]) -> Labels:
        """`domains`: a mapping, or a table with `document` and `domain` (a run's tokens); `documents` in
        the order of their codes. Raises InputError for documents without a domain, or with two."""
        known = _mapping(domains)
        missing = [d for d in documents if d not in known]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(documents)} documents of the effects have no domain, the first is "
                f"{missing[0]!r}. Pass the tokens table of the same run, or a mapping from document to domain."
            )
        wanted = set(documents)
        order = dict.fromkeys(str(name) for d, name in known.items() if d in wanted)
        place = {name: i for i, name in enumerate(order)}
        return cls(list(order), np.array([place[str(known[d])] for d in documents], dtype=np.int64))

    def inside(self, domain: int) -> Int[np.ndarray, " inside"]:
        """Codes of the documents of a domain."""
        return np.flatnonzero(self.code == domain)

    def outside(self, domain: int) -> Int[np.ndarray, " outside"]:
        """Codes of all other documents."""
        return np.flatnonzero(self.code != domain)


def _mapping(domains: Any) -> dict[Any, Any]:
    if isinstance(domains, Mapping):
        return dict(domains)
    have = list(getattr(domains, "columns", []))
    if "document" not in have or "domain" not in have:
        raise InputError(
            "domains must say the domain of each document: a mapping, or a table with the columns "
            f"document and domain, such as the tokens of a run. This is a {type(domains).__name__} with "
            f"{', '.join(map(str, have)) or 'no columns'}."
        )
    pairs: Frame = pd.DataFrame(
        {"document": domains["document"], "domain": domains["domain"].astype(str)}
    )
    pairs = pairs.drop_duplicates()
    twice = pairs["document"].duplicated()
    if twice.any():
        raise InputError(
            f"Document {pairs['document'][twice].iloc[0]!r} stands in two domains; one each was expected."
        )
    return dict(zip(pairs["document"], pairs["domain"]))


def no_estimate(documents: int) -> str | None:
    """Why a domain with so many documents has no estimate, or None if it may have one."""
    if documents >= DOCUMENTS_PER_DOMAIN:
        return None
    return f"{documents} document(s) in this domain; {DOCUMENTS_PER_DOMAIN} are needed for limits by document"
