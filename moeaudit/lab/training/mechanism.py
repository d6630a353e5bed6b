"""What a mechanism may change in a model that is being trained: the one protocol all of them follow.

A mechanism is a section `[mechanisms.NAME]` of a recipe: expert tying, zero experts, EMO's document pools, the
parameterisation of Complete-muE, a tilted loss. The trainer asks each in turn, in the order of the recipe, and knows
none by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from moeaudit.errors import InputError, one_of


@dataclass(frozen=True)
class Batch:
    """What a step reads: the tokens, the domain of each row and the document of each token."""

    ids: Int[Tensor, "rows length"]
    domain: list[str]
    document: Int[Tensor, "rows length"]  # the same number wherever the same document is read


@dataclass
class Routed:
    """One layer's routing of a step; tokens in the order of `batch.ids.flatten()`."""

    layer: int  # the decoder layer
    logits: Float[Tensor, "tokens experts"]  # raw, before any mask; zero experts included
    probabilities: Float[Tensor, "tokens experts"]  # of what the layer chose from, masks included
    index: Int[Tensor, "tokens top_k"]


class Mechanism:
    """Base class; every method changes nothing. A subclass is a frozen dataclass of its settings."""

    name: ClassVar[str]
    balance: ClassVar[str | None] = (
        None  # the one scope of balance that it can be trained with; None: any
    )
    optimiser: ClassVar[str | None] = None  # the one optimiser whose rules it follows; None: any
    of_experts: ClassVar[bool] = True  # whether it needs routing or experts to change

    def prepare(self, model: nn.Module, config: Any) -> None:
        """Change the model after its initialisation and before the optimisers see it: tie, add rows, rescale.

        `config` is the model's own configuration. What a checkpoint needs to load again (declared tied keys, the
        number of zero experts) is written into it here, so that it is saved with the weights.
        """

    def rate(self, name: str, parameter: Tensor) -> float:  # noqa: ARG002
        """Factor on the learning rate of the parameter `name`."""
        return 1.0

    def route(
        self,
        layer: int,  # noqa: ARG002
        logits: Float[Tensor, "tokens experts"],
        batch: Batch,  # noqa: ARG002
    ) -> Float[Tensor, "tokens experts"]:
        """The logits that decoder layer `layer` chooses from; a masked expert stands at -inf.

        The router's own rule (softmax, top-k, renormalisation, scaling) is applied to what is returned.
        """
        return logits

    def loss(self, routed: list[Routed], batch: Batch) -> Tensor | None:  # noqa: ARG002
        """A scalar in nats that is added to the language-model loss, coefficient included; None adds nothing."""
        return None

    def of_tokens(self, losses: Float[Tensor, " tokens"], done: float) -> Tensor | None:  # noqa: ARG002
        """The language-model loss, a scalar in nats, made of the tokens' losses; None leaves their mean.

        `done` is the share of the steps that lie behind, 0 in the first. At most one mechanism of a recipe says how.
        """
        return None

    def to_dict(self) -> dict[str, Any]:
        """The settings, as in the recipe's section; `from_dict` takes them back."""
        return {f.name: getattr(self, f.name) for f in fields(self)} if is_dataclass(self) else {}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Mechanism:
        """The mechanism with these settings. Raises InputError for a setting that it does not have."""
        known = [f.name for f in fields(cls)] if is_dataclass(cls) else []
        for key in settings:
            one_of(key, known, f"a key of [mechanisms.{cls.name}]")
        return cls(**settings)


class Registry(Mapping[str, type[Mechanism]]):
    """Mechanisms by the name of their section. Each stands in a room of its own and is imported when asked for."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)  # name -> "module:class"
        self._made: dict[str, type[Mechanism]] = {}

    def register(self, mechanism: type[Mechanism]) -> type[Mechanism]:
        """Add a mechanism of one's own under its `name`; can decorate the class."""
        self._made[mechanism.name] = mechanism
        return mechanism

    def __getitem__(self, name: str) -> type[Mechanism]:
        if name not in self._made:
            module, _, attribute = self._places[name].partition(":")
            self._made[name] = getattr(importlib.import_module(module), attribute)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._places, *self._made)))

    def __len__(self) -> int:
        return len({*self._places, *self._made})

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._made


MECHANISMS = Registry(
    {
        "tying": "moeaudit.lab.tying.mechanism:Tying",
        "zero_experts": "moeaudit.lab.zero.mechanism:ZeroExperts",
        "emo": "moeaudit.lab.emo.mechanism:Emo",
        "complete_mue": "moeaudit.lab.mue.mechanism:CompleteMuE",
        "tilted": "moeaudit.lab.tilted.mechanism:Tilted",
    }
)


def mechanism(name: str, settings: Mapping[str, Any]) -> Mechanism:
    """The mechanism of the section `[mechanisms.name]`.

    Raises InputError for a name that is not registered, a mechanism that this version does not have and a setting
    that it does not have.
    """
    one_of(name, MECHANISMS, "a section of [mechanisms]")
    try:
        made = MECHANISMS[name]
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("moeaudit.lab."):
            raise
        raise InputError(
            f"[mechanisms.{name}] is known by name, and this version of moeaudit has no {error.name} to train it "
            "with. Update moeaudit, or leave the section out."
        ) from error
    return made.from_dict(settings)


def available(name: str) -> bool:
    """Whether a mechanism can be trained here: registered, and not only known by name."""
    try:
        return name in MECHANISMS and MECHANISMS[name] is not None
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("moeaudit.lab."):
            raise
        return False
