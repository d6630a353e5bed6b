"""The text of a recipe: what is trained on and what is held out, as tokens of the bundled vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moeaudit.errors import InputError
from moeaudit.models.bundled import TOKENIZER
from moeaudit.text.bundled import corpus
from moeaudit.text.document import Corpus
from moeaudit.text.documents import documents
from moeaudit.text.making.slices import TRAINING_DOMAINS

from ..recipes.sections import TextSource
from .data import Tokens

HELD_OUT = 0.1  # of texts of one's own


@dataclass(frozen=True)
class Texts:
    """Training documents and held-out ones by domain, as token arrays that each begin with the boundary token."""

    train: dict[str, list[Tokens]]
    held_out: dict[str, list[Tokens]]
    vocabulary: int
    digest: str  # of the training documents and their domains, `Corpus.hash`
    what: str


@lru_cache(maxsize=2)
def texts_of(source: TextSource) -> Texts:
    """Read and cut the text of a recipe. Raises InputError for text that is not there."""
    from tokenizers import Tokenizer

    fast = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    train, held, what = _documents(source)
    return Texts(
        _tokens(fast, train),
        _tokens(fast, held),
        fast.get_vocab_size(),
        digest_of(source),
        what,
    )


@lru_cache(maxsize=2)
def digest_of(source: TextSource) -> str:
    """`Texts.digest` without the tokens. Raises InputError for text that is not there."""
    return _documents(source)[0].hash


@lru_cache(maxsize=2)
def _documents(source: TextSource) -> tuple[Corpus, Corpus, str]:
    """Documents to train on, those held out, and what they are; read once, so that digest and tokens agree."""
    if source.documents:
        whole = documents(source.documents)
        held, train = whole.split(HELD_OUT, seed=0)
        what = f"documents of {source.documents}"
    else:
        domains = None if source.corpus == "bundled" else TRAINING_DOMAINS
        train = corpus(source.corpus, "train", domains)
        held = corpus(source.corpus, "test", domains)
        what = "the bundled sample" if source.corpus == "bundled" else f"corpus {source.corpus}"
    if not len(train) or not len(held):
        raise InputError(
            f"The text {what} leaves {len(train)} documents to train on and {len(held)} held out; both need some. "
            "Give more documents."
        )
    return train, held, what


def _tokens(fast: Any, found: Corpus) -> dict[str, list[Tokens]]:
    encoded = fast.encode_batch([document.text for document in found])
    made: dict[str, list[Tokens]] = {domain: [] for domain in found.domains}
    for document, encoding in zip(found, encoded):
        made[document.domain].append(np.array(encoding.ids, dtype=np.uint16))
    return made


def tokenizer_files() -> list[Path]:
    """What a model folder needs to be read with the bundled vocabulary."""
    return [TOKENIZER / name for name in ("tokenizer.json", "tokenizer_config.json")]
