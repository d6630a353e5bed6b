"""A census by groups of documents: each is one shard of every table, wherever it is computed.

A group is always measured whole and by the same call, so its shards do not depend on which process, which part
of a run or which machine of a kind did it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.store.question import OUTCOMES

from ..spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.text import TokenizedCorpus

TABLES = ("routing", "effects", "tokens")


@dataclass(frozen=True)
class Group:
    """Documents that are measured together, and which of their tables are wanted.

    `domains` are those of all documents of the run, in order: the categories of the token table.
    """

    number: int
    read: TokenizedCorpus
    domains: tuple[str, ...]
    wanted: tuple[str, ...] = TABLES

    @property
    def n_targets(self) -> int:
        """Tokens whose prediction is measured."""
        return self.read.n_targets


@runtime_checkable
class Spread(Protocol):
    """What computes groups: this process, or workers elsewhere. Order does not matter.

    Yields (number of the group, its tables by name). `advance` is called with effects that are done.
    """

    def __call__(
        self,
        groups: list[Group],
        operator: Operator,
        spec: AuditSpec,
        advance: Callable[[int], None],
    ) -> Iterator[tuple[int, dict[str, Frame]]]: ...


def groups(read: TokenizedCorpus, documents: int) -> Iterator[TokenizedCorpus]:
    """The corpus in groups of `documents` documents, in order: one shard each."""
    order = list(dict.fromkeys(chunk.document for chunk in read.chunks))
    for start in range(0, len(order), documents):
        chosen = set(order[start : start + documents])
        chunks = [chunk for chunk in read.chunks if chunk.document in chosen]
        yield replace(read, chunks=chunks, n_documents=len(chosen), n_dropped=0, notes=[])


def here(model: Model) -> Spread:
    """Groups one after the other, in this process."""

    def spread(
        groups: list[Group],
        operator: Operator,
        spec: AuditSpec,
        advance: Callable[[int], None],
    ) -> Iterator[tuple[int, dict[str, Frame]]]:
        for group in groups:
            yield group.number, measured(model, operator, spec, group, advance)

    return spread


def measured(
    model: Model,
    operator: Operator,
    spec: AuditSpec,
    group: Group,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Frame]:
    """The wanted tables of one group: its tokens and routing from the clean pass, and its effects."""
    out: dict[str, Frame] = {}
    if {"tokens", "routing"} & set(group.wanted):
        out |= _clean(model, spec, group)
    if "effects" in group.wanted:
        out["effects"] = _effects(model, operator, spec, group, advance)
    return {name: out[name] for name in group.wanted}


def _clean(model: Model, spec: AuditSpec, group: Group) -> dict[str, Frame]:
    from moeaudit.observe import capture_documents

    frames = list(capture_documents(model, group.read, following=True))
    tokens = pd.concat([pair[0].astype({"domain": str}) for pair in frames], ignore_index=True)
    tokens["domain"] = pd.Categorical(tokens["domain"], categories=list(group.domains))
    routing = pd.concat([pair[1] for pair in frames], ignore_index=True)
    routing = routing[routing["layer"].isin(spec.layers)].reset_index(drop=True)
    return {"tokens": tokens, "routing": routing}


def _effects(
    model: Model,
    operator: Operator,
    spec: AuditSpec,
    group: Group,
    advance: Callable[[int], None] | None,
) -> Frame:
    from moeaudit.causal import ablate

    found: Any = ablate(
        model,
        group.read,
        operator,
        layers=list(spec.layers),
        outcomes=further(spec),
        frozen_routing=spec.question.frozen_routing,
        share=spec.question.share,
        seed=spec.question.seed,
        predictions=True,
        progress=advance,
    )
    plain = pd.DataFrame(found)
    plain.attrs = dict(found.attrs)  # what the table says of itself, and not the texts beside it
    return plain


def further(spec: AuditSpec) -> list[str]:
    """Outcomes that are measured besides the three of every table."""
    return [name for name in spec.question.outcomes if name not in OUTCOMES]


def chosen(every: Iterable[TokenizedCorpus], domains: Iterable[str]) -> list[Group]:
    """All groups of a census, numbered in order."""
    known = tuple(domains)
    return [Group(number, part, known) for number, part in enumerate(every)]
