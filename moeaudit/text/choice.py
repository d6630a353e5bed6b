"""What an audit reads: two disjoint sets of documents, balanced over domains, and their tokens.

Metrics come from one set and effects from the other. Which documents are chosen depends on the
documents' own texts and on the seed, not on their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.seeds import check_seed
from moeaudit.stats.least import DOCUMENTS_FOR_HARM

from . import Corpus, TokenizedCorpus

if TYPE_CHECKING:
    from moeaudit.models import Model

DOCUMENTS = 160  # effects; see docs/run-folder.md for what this costs
METRIC_RATIO = 2  # clean passes are cheap: up to this many metric documents per effect document
LEAST = DOCUMENTS_FOR_HARM  # of each set


@dataclass(frozen=True)
class Material:
    """The two sets, tokenised, with the hashes that identify them and what was left out."""

    source: str
    metric: TokenizedCorpus
    effect: TokenizedCorpus
    metric_hash: str
    effect_hash: str
    documents: pd.DataFrame
    notes: list[str]
    shift: Shift | None = None


@dataclass(frozen=True)
class Shift:
    """Documents of other domains, which effects are measured on as well, and their hash."""

    source: str
    read: TokenizedCorpus
    hash: str
    documents: pd.DataFrame
    notes: list[str]


def gather(
    model: Model,
    docs: Any,
    *,
    documents: int | None,
    tokens: int,
    max_length: int,
    seed: int,
) -> Material:
    """Choose the documents of both sets and tokenise them.

    `docs`: None (the bundled corpus: its calibration split for metrics, its test split for
    effects), a Corpus, a path, a list of strings or token arrays, or a datasets.Dataset; of these,
    at most half of the documents go to effects and the rest to metrics.

    Raises InputError for text that cannot be used, and for fewer than 4 documents in either set.
    """
    check_amount(documents, tokens)
    check_seed(seed)
    wanted = documents or DOCUMENTS
    if docs is None:
        from . import corpus

        source = "bundled"
        pool, held = corpus("bundled", split="test"), corpus("bundled", split="calibration")
        effect = pool.subset(balanced(pool, wanted, seed))
        metric = held.subset(balanced(held, wanted * METRIC_RATIO, seed))
        left_out: list[str] = []
    elif is_tokens(docs):
        return _from_tokens(model, docs, wanted, tokens, max_length, seed)
    else:
        source = "documents"
        whole, left_out = distinct(as_corpus(docs))
        effect, metric = _two_sets(whole, wanted, seed)
        left_out = [*whole.notes, *left_out]
    return _tokenised(model, source, metric, effect, tokens, max_length, left_out)


def check_amount(documents: int | None, tokens: int) -> None:
    """Raise InputError for too few documents, or tokens of each."""
    if documents is not None and documents < LEAST:
        raise InputError(
            f"documents = {documents} is too few: documents are the sampling unit of every "
            f"interval, and at least {LEAST} are needed. Ask for {LEAST} or more."
        )
    if tokens < 0 or tokens == 1:
        raise InputError(
            f"tokens = {tokens} of each document cannot be audited; give 2 or more, or 0 for all."
        )


def balanced(corpus: Corpus, wanted: int, seed: int) -> list[int]:
    """Places of `wanted` documents (or all), taken from the domains in turn; order is kept.

    Within a domain the order is that of a hash of seed and text, so it is random but does not
    depend on the other documents.
    """
    domains: dict[str, list[tuple[str, int]]] = {}
    for place, document in enumerate(corpus):
        key = hashlib.sha256(f"{seed}/{document.id}".encode()).hexdigest()
        domains.setdefault(document.domain, []).append((key, place))
    queues = [[place for _, place in sorted(found)] for found in domains.values()]
    turns = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    return sorted(turns[:wanted])


def as_corpus(docs: Any) -> Corpus:
    from . import documents

    return docs if isinstance(docs, Corpus) else documents(docs)


def is_tokens(docs: Any) -> bool:
    if isinstance(docs, (str, Path, Corpus)) or not isinstance(docs, Sequence) or not docs:
        return False
    first = docs[0]
    return hasattr(first, "shape") or (isinstance(first, Sequence) and not isinstance(first, str))


def distinct(corpus: Corpus) -> tuple[Corpus, list[str]]:
    """The corpus without repeated texts, which would otherwise stand on both sides."""
    seen: dict[str, int] = {}
    for place, document in enumerate(corpus):
        seen.setdefault(document.id, place)
    repeated = len(corpus) - len(seen)
    notes = [f"{repeated} repeated document(s) left out."] if repeated else []
    return corpus.subset(sorted(seen.values())), notes


def _two_sets(corpus: Corpus, wanted: int, seed: int) -> tuple[Corpus, Corpus]:
    """(effects, metrics): effects get at most half of the documents."""
    _enough(len(corpus))
    effects = balanced(corpus, min(wanted, len(corpus) // 2), seed)
    taken = set(effects)
    rest = corpus.subset([p for p in range(len(corpus)) if p not in taken])
    return corpus.subset(effects), rest.subset(balanced(rest, wanted * METRIC_RATIO, seed))


def _enough(number: int) -> None:
    if number < 2 * LEAST:
        raise InputError(
            f"The text has {number} distinct document(s); an audit needs at least {2 * LEAST}, "
            f"{LEAST} to measure the metrics and {LEAST} others to measure the effects, because "
            "documents are the sampling unit of its statistics. Give more documents (one file, one "
            "line of a .jsonl file or one string each). In Python, ablate measures effects of fewer, "
            "without statistics."
        )


def _tokenised(
    model: Model,
    source: str,
    metric: Corpus,
    effect: Corpus,
    tokens: int,
    max_length: int,
    notes: list[str],
) -> Material:
    parts, rows = [], []
    for role, corpus in (("metrics", metric), ("effects", effect)):
        part, cut, about = read(model, role, corpus, tokens, max_length)
        parts.append(part)
        notes = [*notes, *(f"{role.capitalize()}: {note}" for note in cut)]
        rows += about
    _require(parts)
    frame = columns_of(rows)
    return Material(source, parts[0], parts[1], metric.hash, effect.hash, frame, notes)


def read(
    model: Model, role: str, corpus: Corpus, tokens: int, max_length: int
) -> tuple[TokenizedCorpus, list[str], list[tuple[Any, ...]]]:
    """The beginnings of documents as tokens, what was left out, and a row for each (`columns_of`)."""
    from .for_model import tokens_for

    plain = corpus.subset(range(len(corpus)))
    plain.notes = []
    part, cut = beginnings(tokens_for(model, plain, max_length), tokens)
    length = _lengths(part)
    rows = [
        (role, d.index, d.id, d.domain, d.language, d.source, length.get(d.index, 0))
        for d in corpus
    ]
    return part, cut, rows


def columns_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """The table of documents: role, document, id, domain, language, source, tokens."""
    columns = ["role", "document", "id", "domain", "language", "source", "tokens"]
    return pd.DataFrame(rows, columns=columns)


def _require(parts: list[TokenizedCorpus]) -> None:
    for role, part in zip(("metrics", "effects"), parts):
        if part.n_documents < LEAST:
            raise InputError(
                f"Only {part.n_documents} document(s) for {role} have two tokens or more; at least "
                f"{LEAST} are needed. Give more or longer documents."
            )


def _lengths(read: TokenizedCorpus) -> dict[int, int]:
    length: dict[int, int] = {}
    for chunk in read.chunks:
        length[chunk.document] = length.get(chunk.document, 0) + len(chunk.ids)
    return length


def beginnings(read: TokenizedCorpus, tokens: int) -> tuple[TokenizedCorpus, list[str]]:
    """Keep the first `tokens` tokens of each document (0: all); say what was left out."""
    if tokens == 0:
        return read, read.notes
    chunks, cut, lost = [], set(), 0
    for chunk in read.chunks:
        room = tokens - chunk.start
        if room < len(chunk.ids):
            cut.add(chunk.document)
        kept = chunk.ids[: max(room, 0)] if room >= 2 else chunk.ids[:0]
        lost += len(chunk.ids) - len(kept)
        if len(kept):
            chunks.append(replace(chunk, ids=kept))
    notes = [note for note in read.notes if "cut into" not in note]
    if any(chunk.start for chunk in chunks):
        notes = list(read.notes)
    if cut:
        notes.append(
            f"only the first {tokens} tokens of each document were read; {len(cut)} of "
            f"{read.n_documents} documents are longer, and {lost:,} of {read.n_tokens:,} tokens "
            "were left out."
        )
    return replace(read, chunks=chunks, notes=notes), notes


def _from_tokens(
    model: Model, docs: Sequence[Any], wanted: int, tokens: int, max_length: int, seed: int
) -> Material:
    """Token arrays instead of texts: the same choice, by a hash of the ids."""
    from .for_model import tokens_for

    whole, notes = beginnings(tokens_for(model, docs, max_length), tokens)
    _enough(whole.n_documents)
    ids = {d: hashlib.sha256() for d in dict.fromkeys(c.document for c in whole.chunks)}
    for chunk in whole.chunks:
        ids[chunk.document].update(np.ascontiguousarray(chunk.ids).tobytes())
    names = {d: digest.hexdigest() for d, digest in ids.items()}
    order = sorted(names, key=lambda d: hashlib.sha256(f"{seed}/{names[d]}".encode()).hexdigest())
    effects = set(order[: min(wanted, len(order) // 2)])
    metrics = set(order[len(effects) :][: wanted * METRIC_RATIO])
    parts, rows = [], []
    for role, chosen in (("metrics", metrics), ("effects", effects)):
        chunks = [c for c in whole.chunks if c.document in chosen]
        part = replace(whole, chunks=chunks, n_documents=len(chosen), n_dropped=0, notes=[])
        parts.append(part)
        rows += [
            (role, d, names[d], "text", None, None, n) for d, n in sorted(_lengths(part).items())
        ]
    frame = columns_of(rows)
    return Material("tokens", parts[0], parts[1], parts[0].hash, parts[1].hash, frame, notes)
