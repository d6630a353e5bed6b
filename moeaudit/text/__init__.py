"""What is audited on: documents, corpora, tokenisation.

`tokenize` and its results live in a module that needs numpy; it is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .bundled import corpus as corpus
from .document import Corpus as Corpus
from .document import Document as Document
from .documents import documents as documents

if TYPE_CHECKING:
    from .for_model import tokens_for as tokens_for
    from .tokens import Chunk as Chunk
    from .tokens import TokenizedCorpus as TokenizedCorpus
    from .tokens import tokenize as tokenize

_TOKENS = ("Chunk", "TokenizedCorpus", "tokenize")

__all__ = [
    "Chunk",
    "Corpus",
    "Document",
    "TokenizedCorpus",
    "corpus",
    "documents",
    "tokenize",
    "tokens_for",
]


def __getattr__(name: str) -> Any:
    if name == "tokens_for":
        return importlib.import_module(".for_model", __name__).tokens_for
    if name in _TOKENS:
        return getattr(importlib.import_module(".tokens", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
