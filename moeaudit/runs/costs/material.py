"""How long the documents of a census are: those of a text, or as many as are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError, ModelError
from moeaudit.models.accounting.config import Found
from moeaudit.models.bundled import TOKENIZER
from moeaudit.models.sources.files import reachable
from moeaudit.text.choice import DOCUMENTS, LEAST, METRIC_RATIO, gather


@dataclass(frozen=True)
class Reading:
    """Lengths in tokens: of each piece that effects are measured on, and of the pieces for metrics."""

    effect: Sequence[int]
    metric: Sequence[int]
    documents: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Reader:
    """What reads a text: all of a model that cutting into tokens needs."""

    name: str
    tokenizer: Any
    max_length: int
    vocab_size: int


def reading(
    found: Found,
    docs: Any,
    *,
    documents: int | None,
    tokens: int,
    max_length: int | None,
    limit: int,
    vocab: int,
    seed: int,
) -> Reading:
    """The pieces an audit of `docs` would read; without `docs`, documents that all have `tokens` tokens.

    Raises InputError for numbers that cannot be and for text that cannot be audited, ModelError where
    text is given and the model's tokenizer cannot be read.
    """
    wanted = DOCUMENTS if documents is None else documents
    if wanted < LEAST:
        raise InputError(
            f"documents = {wanted} is too few: documents are the sampling unit of every interval, and at "
            f"least {LEAST} are needed. Ask for {LEAST} or more."
        )
    if docs is not None:
        reader = _Reader(found.name, _tokenizer(found), limit, vocab)
        material: Any = gather(
            reader,  # type: ignore[arg-type]  # reading needs no more of a model
            docs,
            documents=documents,
            tokens=tokens,
            max_length=limit if max_length is None else max_length,
            seed=seed,
        )
        effect, metric = (
            [len(chunk.ids) for chunk in part.chunks] for part in (material.effect, material.metric)
        )
        notes = [] if documents is None or material.effect.n_documents >= documents else [
            f"{documents} documents were asked for; the text leaves {material.effect.n_documents} for effects, "
            "since metrics need documents of their own"
        ]  # fmt: skip
        return Reading(effect, metric, material.effect.n_documents, notes)
    if tokens < 2:
        raise InputError(
            f"tokens = {tokens}: how long whole documents are is known only from a text. Give a text, "
            "or the number of tokens of each document, 2 or more."
        )
    if tokens > limit:
        raise InputError(
            f"tokens = {tokens}, and {found.name} reads at most {limit:,} tokens at once. Give {limit:,} or fewer."
        )
    return Reading([tokens] * wanted, [tokens] * (wanted * METRIC_RATIO), wanted)


def _tokenizer(found: Found) -> Any:
    from transformers import AutoTokenizer

    place = TOKENIZER if found.bundled else found.folder or found.name
    at: dict[str, Any] = (
        {} if isinstance(place, Path) or reachable() else {"local_files_only": True}
    )
    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **at)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The text cannot be cut into tokens of '{found.name}': its tokenizer could not be read ({lines[0]}). "
            "Leave the text out and give documents= and tokens=, or put tokenizer.json beside config.json."
        ) from error
