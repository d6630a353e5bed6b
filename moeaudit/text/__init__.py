"""What is audited on: documents, corpora, tokenisation."""

from __future__ import annotations

from .document import Corpus as Corpus
from .document import Document as Document
