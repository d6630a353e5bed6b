"""Reading the full corpus that `moeaudit.text.build` wrote: documents, and token arrays to train on.

from moeaudit.text.full import training_tokens, document_tokens
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from moeaudit.errors import InputError, one_of

from ..document import Document
from .slices import TRAINING_DOMAINS
from .split import SPLITS


@dataclass(frozen=True)
class TokenizedText:
    """One document as tokens, led by the boundary token, with its size in UTF-8 bytes.

    Bits per byte = sum of the NLL of `ids[1:]` in nats / (ln 2 * n_bytes).
    """

    ids: UInt16[np.ndarray, " tokens"]
    n_bytes: int
    document: Document


def available(corpus: Path) -> list[str]:
    """The domains a corpus folder holds."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in corpus.glob("*.jsonl.gz"))


def documents_of(corpus: Path | str, domain: str, split: str) -> Iterator[Document]:
    """The documents of one domain and split, in file order. Raises InputError if unknown."""
    corpus = Path(corpus)
    path = corpus / f"{domain}.jsonl.gz"
    if not path.is_file():
        raise InputError(
            f"{corpus} holds no domain {domain!r}; it holds: {', '.join(available(corpus)) or '-'}. "
            f"Make the corpus with `python -m moeaudit.text.making.build --out {corpus}`."
        )
    one_of(split, SPLITS, "split")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record.pop("split") == split:
                yield Document(**record)


def document_tokens(
    corpus: Path | str,
    tokenizer: Any,
    split: str,
    domains: Sequence[str] = TRAINING_DOMAINS,
    limit: int | None = None,
) -> dict[str, list[TokenizedText]]:
    """Every document of `split` as tokens, by domain, in file order.

    With `limit`, that many a domain, those whose hashes come first: a sample over all sources.

    `tokenizer`: a transformers fast tokenizer or a `tokenizers.Tokenizer`, with at most 65,536
    tokens, whose template puts the boundary token first.
    """
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if fast.get_vocab_size() > 65536:
        raise InputError("The tokenizer has more than 65,536 tokens: its ids do not fit uint16.")
    result: dict[str, list[TokenizedText]] = {}
    for domain in domains:
        documents = list(documents_of(corpus, domain, split))
        if limit is not None:
            documents = sorted(documents, key=lambda document: document.id)[:limit]
        encodings = fast.encode_batch([document.text for document in documents])
        result[domain] = [
            TokenizedText(
                np.array(encoding.ids, dtype=np.uint16),
                len(document.text.encode("utf-8")),
                document,
            )
            for document, encoding in zip(documents, encodings)
        ]
    return result


def training_tokens(
    corpus: Path | str,
    tokenizer: Any,
    split: str = "train",
    domains: Sequence[str] = TRAINING_DOMAINS,
) -> dict[str, UInt16[np.ndarray, " tokens"]]:
    """All documents of `split` by domain, joined into one array, each led by the boundary token."""
    parts = document_tokens(corpus, tokenizer, split, domains)
    empty = np.zeros(0, dtype=np.uint16)
    return {name: np.concatenate([empty, *(d.ids for d in docs)]) for name, docs in parts.items()}
