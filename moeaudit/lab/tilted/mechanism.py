"""The tilted loss while a lab model is trained: the section `[mechanisms.tilted]` of a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from moeaudit.errors import InputError

from ..training.mechanism import Mechanism
from .loss import tilted


@dataclass(frozen=True)
class Tilted(Mechanism):
    """After `warm_up` of the steps the loss is `tilted` over the tokens of a step, instead of their mean.

    Defaults are the published ones: strength 2 (for each nat), 40 % of the training on the plain loss. There a sample
    is one classified input; here it is a token and what follows it. Routers and experts are left as they are, so a
    dense model can be trained with it as well.

    Raises InputError for a strength below 0 and a warm-up that is no share.
    """

    name: ClassVar[str] = "tilted"
    of_experts: ClassVar[bool] = False

    strength: Any = 2.0  # a number; whatever a file says is checked below
    warm_up: Any = 0.4

    def __post_init__(self) -> None:
        for name, most in (("strength", math.inf), ("warm_up", 1.0)):
            given = getattr(self, name)
            number = isinstance(given, int | float) and not isinstance(given, bool)
            if not (number and 0 <= given <= most and math.isfinite(given)):
                asked = "a share of the steps, 0 to 1," if name == "warm_up" else "0 or more"
                raise InputError(f"[mechanisms.tilted] {name} = {given!r}: {asked} was expected.")

    def of_tokens(self, losses: Float[Tensor, " tokens"], done: float) -> Tensor | None:
        return tilted(losses, self.strength) if done >= self.warm_up else None
