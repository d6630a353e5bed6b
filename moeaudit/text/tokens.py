"""From documents to token arrays that fit the model's context."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from moeaudit.errors import InputError

from .document import Corpus, Document
from .padding import Padding


@dataclass(frozen=True, eq=False)
class Chunk:
    """A run of tokens of one document that the model reads at once.

    `document` is `Document.index` (or the place in the list that was given); token t of the
    chunk is at position `start + t` of its document.
    """

    document: int
    domain: str
    start: int
    ids: Int64[np.ndarray, " tokens"]


@dataclass(frozen=True, eq=False)
class TokenizedCorpus:
    """Chunks in document order, and what happened on the way, for the user to read in `notes`."""

    chunks: list[Chunk]
    n_documents: int  # documents that have chunks here
    n_dropped: int  # documents that were given and have none
    max_length: int
    notes: list[str] = field(default_factory=list)
    tokenizer: Any = field(default=None, repr=False)  # for reading tokens back, where it came along

    @property
    def n_tokens(self) -> int:
        return sum(len(chunk.ids) for chunk in self.chunks)

    @property
    def n_targets(self) -> int:
        """Tokens that are predicted: all but the first of each chunk."""
        return self.n_tokens - len(self.chunks)

    @property
    def hash(self) -> str:
        """SHA-256 over every chunk's place and token ids."""
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(f"{chunk.document}/{chunk.start}/{len(chunk.ids)}/".encode())
            digest.update(chunk.ids.astype("<i8").tobytes())
        return digest.hexdigest()


def tokenize(
    source: Any,
    tokenizer: Any = None,
    max_length: int = 512,
    min_tokens: int = 2,
    vocabulary: int | None = None,
    padding: Padding | None = None,
) -> TokenizedCorpus:
    """Token chunks of at most `max_length` tokens.

    `source`: a `Corpus`, a list of strings or `Document`s, or a list of 1-D integer tensors,
    arrays or lists (token ids; no tokenizer is needed then). `vocabulary`: ids must lie below it;
    pass the rows of the model's embedding. `padding`: ids that fill rows of a batch up; runs of them at
    the ends of rows are stripped, counted and noted. Special tokens are the tokenizer's affair: they are
    added once a document, not once a chunk.

    A document longer than `max_length` is cut; a last piece shorter than `min_tokens` takes what
    it lacks from the piece before it. Attention does not cross a cut, and the first token after a
    cut is predicted by none. Documents shorter than `min_tokens` have nothing to predict and are
    left out, repeated ones are kept once; both are counted and noted.

    Raises InputError for ids that are negative, too large, of the wrong type or shape, and when
    no document is left.
    """
    if min_tokens < 2 or max_length < 2 * min_tokens - 1:
        raise InputError(
            f"A chunk needs at least 2 tokens (one to read, one to predict) and room to cut: "
            f"min_tokens={min_tokens} must be 2 or more and max_length={max_length} at least "
            f"{max(3, 2 * min_tokens - 1)}."
        )
    notes = list(source.notes) if isinstance(source, Corpus) else []
    chunks: list[Chunk] = []
    short = repeated = cut = pieces = 0
    seen: set[bytes] = set()
    named = list(_sequences(source, tokenizer))
    if padding is not None and padding.padded([ids for _, _, ids in named]):
        kept = [(number, domain, padding.strip(ids)) for number, domain, ids in named]
        before, after = ([ids for _, _, ids in each] for each in (named, kept))
        notes += _stripped(before, after, padding.ids)
        named = kept
    for number, domain, ids in named:
        _check_range(ids, vocabulary, number)
        if len(ids) < min_tokens:
            short += 1
            continue
        if ids.tobytes() in seen:
            repeated += 1
            continue
        seen.add(ids.tobytes())
        starts = _starts(len(ids), max_length, min_tokens)
        if len(starts) > 1:
            cut, pieces = cut + 1, pieces + len(starts)
        for start, end in zip(starts, [*starts[1:], len(ids)]):
            chunks.append(Chunk(number, domain, start, ids[start:end]))
    if short:
        notes.append(f"{_documents(short)} left out: fewer than {min_tokens} tokens.")
    if repeated:
        notes.append(f"{_documents(repeated)} left out: repeated token for token.")
    if cut:
        notes.append(
            f"{_documents(cut)} longer than {max_length} tokens cut into {pieces} chunks. "
            f"Attention does not cross a cut and the first token after one is not predicted."
        )
    if not chunks:
        raise InputError(
            f"No document is left to audit: {_documents(short)} given, none with the "
            f"{min_tokens} tokens it takes to predict one from another."
        )
    return TokenizedCorpus(chunks, len(seen), short + repeated, max_length, notes)


def _stripped(before: list[np.ndarray], after: list[np.ndarray], ids: frozenset[int]) -> list[str]:
    gone = [len(a) - len(b) for a, b in zip(before, after)]
    filled = ", ".join(str(each) for each in sorted(ids))
    return [
        f"{sum(gone):,} padding tokens (id {filled}) at the ends of {_documents(sum(n > 0 for n in gone))} "
        "stripped: they fill a batch up and are no text."
    ]


def _documents(number: int) -> str:
    return f"{number} document{'s' * (number != 1)}"


def _starts(length: int, max_length: int, min_tokens: int) -> list[int]:
    starts = list(range(0, length, max_length))
    if len(starts) > 1:
        starts[-1] = min(starts[-1], length - min_tokens)
    return starts


def _sequences(
    source: Any, tokenizer: Any
) -> Iterator[tuple[int, str, Int64[np.ndarray, " tokens"]]]:
    """(document number, domain, ids) of everything in `source`."""
    items = _items(source)
    if not isinstance(items[0], str | Document):
        for place, item in enumerate(items):
            yield place, "text", _ids(item, place)
        return
    if tokenizer is None:
        raise InputError(
            "Texts need a tokenizer, and this model has none. Give a model that comes with its tokenizer "
            "(tokenizer.json beside config.json); in Python, load(..., tokenizer=...) takes one from elsewhere, "
            "and token ids need none."
        )
    named: list[tuple[int, str, str]] = []
    for place, item in enumerate(items):
        if isinstance(item, Document):
            named.append((item.index if item.index >= 0 else place, item.domain, item.text))
        elif isinstance(item, str):
            named.append((place, "text", item))
        else:
            raise InputError(
                f"Item {place} of the list is {type(item).__name__}, but item 0 is a text. "
                f"Texts and token ids cannot be mixed."
            )
    if len({number for number, _, _ in named}) < len(named):
        raise InputError(
            "Two documents of the list carry the same index, so their tokens could not be told "
            "apart. Join them into one corpus first: Corpus([...])."
        )
    # verbose=False: transformers warns of long texts, which are cut here and noted.
    encoded = tokenizer([text for _, _, text in named], verbose=False)["input_ids"]
    for (number, domain, _), ids in zip(named, encoded):
        yield number, domain, np.asarray(ids, dtype=np.int64)


def _items(source: Any) -> Sequence[Any]:
    if _holds_texts(source):
        return source.tolist()
    if isinstance(source, Mapping) and "input_ids" in source:
        raise InputError(
            f"This is a tokenizer's {type(source).__name__}. Give the texts themselves, or its rows without padding: "
            "list(encoded['input_ids'])."
        )
    shape = getattr(source, "shape", None)
    if shape is not None:
        raise InputError(
            f"Expected a list of 1-D token arrays, one a document, but got one {len(shape)}-D "
            f"array of shape {tuple(shape)}. Pass a list of its rows with the padding removed."
        )
    if isinstance(source, str | bytes) or not isinstance(source, Sequence):
        raise InputError(
            f"Expected a corpus, a list of texts or a list of token arrays, not "
            f"{type(source).__name__}. A single text is [text]; files are read by documents(path)."
        )
    if not source:
        raise InputError("The list of documents is empty. Give at least one document.")
    return source


def _holds_texts(source: Any) -> bool:
    """Whether an array or a column of a table holds texts."""
    if getattr(source, "ndim", None) != 1 or not hasattr(source, "tolist") or not len(source):
        return False
    return isinstance(source.tolist()[0], str)


def _ids(item: Any, place: int) -> Int64[np.ndarray, " tokens"]:
    """One document's token ids from a torch tensor, an array or a list of integers."""
    if isinstance(item, Sequence) and len(item) and isinstance(item[0], Mapping):
        raise InputError(
            f"Document {place} is a conversation ({', '.join(map(str, item[0]))}). Make one text of it first: "
            "tokenizer.apply_chat_template(messages, tokenize=False)."
        )
    if isinstance(item, bytes) or not (hasattr(item, "shape") or isinstance(item, Sequence)):
        raise InputError(
            f"Document {place} is {type(item).__name__}; expected a string, a Document or 1-D "
            f"token ids."
        )
    detach = getattr(item, "detach", None)
    try:
        array = np.asarray(item if detach is None else detach().cpu())
    except (TypeError, ValueError, OverflowError) as error:  # bfloat16, ragged lists, huge numbers
        raise InputError(f"Document {place} is no 1-D array of token ids: {error}.") from error
    if array.ndim != 1:
        raise InputError(
            f"Document {place} has shape {array.shape}; expected one dimension of token ids. "
            f"Pass the rows of a batch as separate documents, without padding."
        )
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"Document {place} holds {array.dtype} values; token ids are integers (int64)."
        )
    return array.astype(np.int64)


def _check_range(ids: Int64[np.ndarray, " tokens"], vocabulary: int | None, number: int) -> None:
    wrong = ids < 0
    if vocabulary is not None:
        wrong |= ids >= vocabulary
    if wrong.any():
        place = int(np.argmax(wrong))
        limit = "" if vocabulary is None else f" to {vocabulary - 1}"
        raise InputError(
            f"Document {number} holds token id {int(ids[place])} at position {place}; this "
            f"model's ids run from 0{limit}. Was it tokenised for another model, or padded?"
        )
