"""Which part of a run measures what: the i-th of n, settled by the question and the documents alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError

from ..spec import AuditSpec
from .groups import groups

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.text.choice import Material

CLEAN = 3  # forwards of a group besides its effects: its routing, and the walk's own clean stream


@dataclass(frozen=True)
class Part:
    """Part `index` (from 1) of `of`: the numbers of its groups of documents, of those that there are.

    The first part also measures the routing metrics and declares the analysis.
    """

    index: int
    of: int
    effects: tuple[int, ...]
    shift: tuple[int, ...]
    n_effects: int
    n_shift: int

    @property
    def first(self) -> bool:
        """Whether it measures the metrics, too."""
        return self.index == 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        return f"part {self.index} of {self.of}"


def read_part(text: str | tuple[int, int]) -> tuple[int, int]:
    """`"2/8"` as (2, 8). Raises InputError for what is no part, or an index out of range."""
    first, slash, second = (
        text.partition("/") if isinstance(text, str) else (str(text[0]), "/", str(text[1]))
    )
    if not slash or not first.strip().isdigit() or not second.strip().isdigit():
        raise InputError(f"The part {text!r} cannot be read; write i/n, such as 2/8.")
    index, of = int(first), int(second)
    if not 1 <= index <= of:
        raise InputError(
            f"There is no part {index} of {of}: parts are counted from 1 to n, so the last one is {max(of, 1)}/"
            f"{max(of, 1)}."
        )
    return index, of


def part_of(
    index: int, of: int, model: Model, operator: Operator, material: Material, spec: AuditSpec
) -> Part:
    """What part `index` of `of` measures.

    Groups of documents go, the largest first, each to the part that has least to do so far (Graham 1969,
    longest processing time first); the first part begins with the routing metrics. Work is counted in
    clean forwards of a token.

    Raises InputError for more parts than there are groups.
    """
    per_token = CLEAN + rows_in_forwards(model, operator, spec)
    sets = {"effects": material.effect, "shift": material.shift and material.shift.read}
    loads: list[tuple[float, str, int]] = []
    counts = {"effects": 0, "shift": 0}
    for name, read in sets.items():
        for number, group in enumerate(groups(read, spec.shard_documents) if read else ()):
            loads.append((group.n_tokens * per_token, name, number))
            counts[name] += 1
    if of > len(loads):
        raise InputError(
            f"{of} parts are more than this audit can be divided into: its documents are measured in {len(loads)} "
            f"groups of up to {spec.shard_documents}. Give {len(loads)} parts or fewer, or more documents."
        )
    # The first part has the metrics to measure already.
    done = [float(material.metric.n_tokens), *[0.0] * (of - 1)]
    mine: dict[str, list[int]] = {"effects": [], "shift": []}
    for load, name, number in sorted(loads, key=lambda each: (-each[0], each[1], each[2])):
        least = done.index(min(done))
        done[least] += load
        if least == index - 1:
            mine[name].append(number)
    effects, shift = (tuple(sorted(mine[name])) for name in ("effects", "shift"))
    return Part(index, of, effects, shift, counts["effects"], counts["shift"])


def rows_in_forwards(model: Model, operator: Operator, spec: AuditSpec) -> float:
    """What the rows of one token cost, in clean forwards of a token: a row born at layer l computes the layers
    from l on."""
    from moeaudit.causal.operators.routing import rows_by_layer

    depth = model.anatomy.n_layers
    born = rows_by_layer(operator, [model.anatomy[layer] for layer in spec.layers])
    return sum(rows * (depth - layer) / depth for layer, rows in born.items())
