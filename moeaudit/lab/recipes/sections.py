"""The sections of a recipe: what each key is, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from moeaudit.errors import InputError, one_of

FAMILIES = ("olmoe", "qwen2-moe", "deepseek-v2", "llama")
SCOPES = ("global", "micro", "sequence", "none")
OPTIMISERS = ("muon", "adamw")
S = TypeVar("S")


@dataclass(frozen=True)
class Shape:
    """`[model]`: a small model in transformers' own class. Widths and lengths are numbers, not shares."""

    family: str = "olmoe"
    hidden: int = 64
    layers: int = 6
    experts: int = 16  # routed experts a layer
    top_k: int = 2
    width: int = 48  # of one routed expert
    shared_width: int = (
        0  # qwen2-moe: of the gated shared expert; deepseek-v2: of all shared experts together
    )
    dense_width: int = (
        96  # of a dense MLP: every layer of llama, the first `dense_layers` of deepseek-v2
    )
    dense_layers: int = 0  # deepseek-v2: layers without experts, from the first on
    heads: int = 4
    context: int = 128  # tokens
    norm_topk_prob: bool = False  # whether the weights of the chosen are scaled to sum to one

    def __post_init__(self) -> None:
        one_of(self.family, FAMILIES, "family")
        positive(self, "model", *_shape_numbers(self.family))
        if self.family != "llama" and self.top_k > self.experts:
            raise InputError(
                f"[model] top_k is {self.top_k} and experts {self.experts}; a token cannot choose more experts than "
                "there are."
            )
        if self.hidden % self.heads or self.hidden // self.heads % 2:
            raise InputError(
                f"[model] hidden is {self.hidden} and heads {self.heads}; hidden must be an even number a head, "
                "for the rotary positions."
            )
        if self.family in ("qwen2-moe", "deepseek-v2") and not self.shared_width:
            raise InputError(
                f"[model] shared_width is 0, and {self.family} has a shared expert in every MoE layer. Give its width; "
                "for a model without one take the family olmoe."
            )
        if self.family == "deepseek-v2" and self.shared_width % self.width:
            raise InputError(
                f"[model] shared_width is {self.shared_width}; the shared experts of deepseek-v2 are of the routed "
                f"ones' width, so a multiple of width = {self.width} was expected."
            )
        if self.family == "deepseek-v2" and self.norm_topk_prob:
            raise InputError(
                "[model] norm_topk_prob is true, and the router of deepseek-v2 in transformers does not renormalise. "
                "Leave it out."
            )
        if not 0 <= self.dense_layers < self.layers:
            raise InputError(
                f"[model] dense_layers is {self.dense_layers} of {self.layers} layers; 0 to {self.layers - 1} were "
                "expected."
            )


def _shape_numbers(family: str) -> tuple[str, ...]:
    common = ("hidden", "layers", "heads", "context")
    return (*common, "dense_width") if family == "llama" else (*common, "experts", "top_k", "width")


@dataclass(frozen=True)
class TextSource:
    """`[text]`: what is read."""

    corpus: str = "bundled"  # or the folder of a corpus rebuilt from its lock file (docs/corpus.md)
    documents: str = (
        ""  # texts of your own instead: a folder or a file, as `moeaudit.documents` reads them
    )
    held_out: int = 25  # documents a domain that the card is measured on, from the test split

    def __post_init__(self) -> None:
        positive(self, "text", "held_out")
        if self.documents and self.corpus != "bundled":
            raise InputError(
                "[text] gives both corpus and documents. Name one: corpus for the bundled text or a rebuilt corpus, "
                "documents for texts of your own."
            )


@dataclass(frozen=True)
class Schedule:
    """`[train]`: how much is read and how the weights move. The rate warms up, stays, and falls to zero."""

    steps: int = 300
    rows: int = 16  # a step, in equal parts of every domain
    length: int = 128  # tokens a row
    optimiser: str = "muon"  # for hidden matrices and experts; AdamW moves the rest
    matrix_rate: float = 0.02  # hidden matrices and experts
    vector_rate: float = 0.01  # embeddings, head, norms, biases
    router_rate: float = 0.004  # slower, or early favourites keep their lead
    warmup: int = 20  # steps
    decay: float = 0.4  # share of the steps, the last ones
    seed: int = 0
    z: float = 0.001  # coefficient of the router z-loss
    clip: float = 1.0  # largest norm of the gradient

    def __post_init__(self) -> None:
        one_of(self.optimiser, OPTIMISERS, "optimiser")
        positive(self, "train", "steps", "rows", "length", "clip")
        positive(self, "train", "warmup", "seed", "z", least=0)
        for name in ("matrix_rate", "vector_rate", "router_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"[train] {name} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.decay <= 1:
            raise InputError(f"[train] decay is {self.decay}; a share of the steps, 0 to 1.")

    @property
    def tokens(self) -> int:
        """How many tokens are read in all."""
        return self.steps * self.rows * self.length

    def factor(self, step: int) -> float:
        """Factor on the learning rates at `step` (from 0)."""
        warm = (step + 1) / max(1, self.warmup)
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, warm, left)


@dataclass(frozen=True)
class Balance:
    """`[balance]`: the load-balancing loss, and over which tokens loads are counted (Qiu et al., arXiv 2501.11873)."""

    coefficient: float = 0.01
    scope: str = (
        "global"  # global: a whole step; micro: groups of rows; sequence: each row; none: no loss
    )
    groups: int = 8  # of `micro`
    shuffled: bool = (
        False  # whether tokens are dealt to the groups at random, instead of a domain a group
    )

    def __post_init__(self) -> None:
        one_of(self.scope, SCOPES, "scope of the balance loss")
        positive(self, "balance", "groups")
        positive(self, "balance", "coefficient", least=0)
        if self.shuffled and self.scope != "micro":
            raise InputError(
                f'[balance] shuffled is true with scope "{self.scope}"; only the groups of scope "micro" can be dealt '
                "at random."
            )


def positive(section: Any, name: str, *keys: str, least: int = 1) -> None:
    """Raise InputError for a number of a section that is below `least` (or not above 0)."""
    for key in keys:
        value = getattr(section, key)
        enough = value > 0 if least == 1 and isinstance(value, float) else value >= least
        if not enough or value == math.inf:
            raise InputError(f"[{name}] {key} is {value}; at least {least} was expected.")


def section(kind: type[S], name: str, given: Any) -> S:
    """The section `[name]` from a table of TOML.

    Raises InputError for a key that does not exist, naming the nearest that does, and for a value of another type.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"[{name}] is {given!r}; a table of keys was expected.")
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    settings = {}
    for key, value in given.items():
        one_of(key, types, f"key of [{name}]")
        settings[key] = _of_type(name, key, value, str(types[key]))
    return kind(**settings)


_SAID = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _of_type(name: str, key: str, value: Any, wanted: str) -> Any:
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
    }[wanted]
    if not fits or value != value:
        raise InputError(f"[{name}] {key} is {value!r}; {_SAID[wanted]} was expected.")
    return float(value) if wanted == "float" else value
