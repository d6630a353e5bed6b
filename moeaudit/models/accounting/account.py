"""`accounting`: the memory, operations and cache of a model, as one object that shows itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.frames.shown import bullets, paragraph, table

from .config import config_of
from .flops import forward_flops
from .parts import parts_of
from .shapes import Shapes, measured_shapes, without_weights


@dataclass(frozen=True)
class Account:
    """What a model takes. `parts` has the columns part, parameters, active (see `parts_of`).

    Two counts of what is active are in use. `active`: weights that a token goes through, of the embedding the one
    row that it reads. `active_published`: everything but the routed experts that a token does not use, as model
    cards count ("1B active of 7B"). Both count experts that several layers share at every layer, as the operations do:
    tying changes neither, only `total`, which they can exceed where many layers share a bank.
    """

    name: str
    origin: str
    shapes: Shapes = field(repr=False)
    parts: Frame = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Parameters, tied ones once."""
        return self.shapes.parameters

    @property
    def active(self) -> int:
        return int(self.parts["active"].sum())

    @property
    def active_published(self) -> int:
        routed = self.parts[self.parts["part"] == "routed experts"].iloc[0]
        return int(self.total - routed["parameters"] + routed["active"])

    @property
    def cached(self) -> int | None:
        """Numbers kept of each token in all layers; None where some layer keeps something else than keys and values."""
        kept = [layer.cached for layer in self.shapes.layers]
        return None if any(each is None for each in kept) else sum(each or 0 for each in kept)

    def cache_bytes(self, tokens: int, bits: float | int = 16) -> float:
        """Bytes of the cache after `tokens` tokens; of layers with a window no more than the window.

        Raises InputError where some layer keeps something else than keys and values.
        """
        _positive(tokens=tokens, bits=bits)
        if self.cached is None:
            raise InputError(
                f"{self.name}: not every layer keeps keys and values alone, so there is no such cache to count. "
                "Count weights and operations alone (.total, .parts, .flops)."
            )
        kept = (
            (layer.cached or 0) * min(tokens, layer.window or tokens)
            for layer in self.shapes.layers
        )
        return sum(kept) * bits / 8

    def memory(
        self,
        tokens: int,
        weight_bits: float | int = 16,
        cache_bits: float | int = 16,
    ) -> float:
        r"""Bytes of weights and cache: \(\frac{b_w}{8} N + \frac{b_c}{8} \sum_l c_l T\) (arXiv 2605.27358).

        \(N\) all parameters, \(c_l\) the numbers that layer l keeps of a token, \(T\) the tokens.
        """
        _positive(weight_bits=weight_bits)
        return self.total * weight_bits / 8 + self.cache_bytes(tokens, cache_bits)

    def flops(self, tokens: int) -> float:
        """Operations of one forward over `tokens` tokens (a prefill), products with keys included."""
        _positive(tokens=tokens)
        return forward_flops(self.shapes, tokens)

    def decode_flops(self, tokens: int) -> float:
        """Operations of the next token after `tokens` - 1 others that are in the cache."""
        return self.flops(tokens) - (self.flops(tokens - 1) if tokens > 1 else 0.0)

    def training_flops(self, tokens: float | int, length: int) -> float:
        """Operations of training on `tokens` tokens in rows of `length`: a forward and twice as much backward."""
        _positive(tokens=tokens)
        return 3.0 * self.flops(length) * tokens / length

    def __repr__(self) -> str:
        length = min(2048, self.shapes.max_length)
        kept = "a cache that is not of keys and values"
        if self.cached is not None:
            kept = f"{self.cached:,} numbers of cache a token"
            kept += f", {_size(self.memory(length))} with weights and {length:,} tokens in 16 bits"
        return (
            f"{self.name}: {_count(self.total)} parameters, {_count(self.active_published)} active "
            f"({_count(self.active)} that a token goes through); {kept}; {self.flops(length) / length / 1e9:.3g} "
            f"GFLOP a token at {length:,} tokens ({self.origin})."
        )

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + table(self.parts) + bullets(self.notes)


def accounting(model: Any, *, revision: str | None = None) -> Account:
    """Memory, operations, active parameters and cache of a model, from its configuration alone.

    Args:
        model: a bundled name, a folder with config.json, a hub id, a transformers configuration; or a model that
            is loaded already (ours or transformers' own), which is counted as it is.
        revision: of a hub id.

    Returns:
        An `Account`, which shows itself; `.parts` has one row a part, `.memory(tokens)` bytes, `.flops(tokens)`
        operations.

    Raises:
        ModelError: no configuration, an architecture that transformers does not know, no routed experts.

    Example:
        ma.accounting("tiny-olmoe").parts
    """
    from transformers import PreTrainedModel

    inner = getattr(model, "hf", model)
    if isinstance(inner, PreTrainedModel):
        name, origin, built = (
            str(getattr(model, "name", type(inner).__name__)),
            "the model itself",
            inner,
        )
        notes: tuple[str, ...] = ()
    else:
        found = config_of(model, revision)
        name, origin, built = found.name, found.origin, without_weights(found)
        notes = (
            (f"stored as {found.quantised}; counted as if it were not",) if found.quantised else ()
        )
    shapes = measured_shapes(built, name)
    if not shapes.by_rows:
        notes += (
            "some layers are not softmax attention: their operations and their cache are not counted",
        )
    frame = pd.DataFrame(parts_of(built, shapes))
    return Account(name, origin, shapes, frame, notes)


def _positive(**values: float | int) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} = {value}: a number above 0 was expected.")


def _count(value: float | int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def _size(value: float | int) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e3:.3g} kB"
