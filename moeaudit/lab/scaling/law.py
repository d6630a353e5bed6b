r"""The joint law of MobileMoE (arXiv 2605.27358), after that of arXiv 2502.05172.

\[L = A \hat E^{\delta} N^{\alpha + \gamma \ln \hat E} + B \hat E^{\omega} D^{\beta + \zeta \ln \hat E} + c\]
\[\frac{1}{\hat E} = \frac{1}{E - 1 + (1 / E_{start} - 1 / E_{max})^{-1}} + \frac{1}{E_{max}}\]

L in nats a token, N active parameters in billions, D training tokens in billions, E the number of experts' worth
of capacity (1 is dense). The form and the coefficients come from a third party's account of the paper; that N and
D are in billions is our reading, the one in which the losses are plausible (docs/lab/mobile-moe.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

import numpy as np
from jaxtyping import Float

from moeaudit.errors import InputError

E_START, E_MAX = 1.0, 32.0


def effective_experts(
    experts: Float[np.ndarray, " points"] | float | int,
    e_start: float | int = E_START,
    e_max: float | int = E_MAX,
) -> Float[np.ndarray, " points"] | float:
    """The saturating count of experts: `e_start` at E = 1, below `e_max` however many there are.

    Raises InputError for E below 1, and unless 0 < e_start < e_max.
    """
    given = np.asarray(experts, dtype=np.float64)
    if not 0 < e_start < e_max:
        raise InputError(f"e_start = {e_start}, e_max = {e_max}: 0 < e_start < e_max was expected.")
    if not (given >= 1).all():
        raise InputError(
            f"E = {given.min():g}: at least 1 was expected, where 1 stands for a dense model."
        )
    found = 1 / (1 / (given - 1 + 1 / (1 / e_start - 1 / e_max)) + 1 / e_max)
    return found if found.ndim else float(found)


@dataclass(frozen=True)
class Law:
    """The nine coefficients. `Law(...)(N, D, E)` is the loss in nats."""

    A: float
    delta: float
    alpha: float
    gamma: float
    B: float
    omega: float
    beta: float
    zeta: float
    c: float

    def __call__(
        self,
        active: Float[np.ndarray, " points"] | float | int,
        tokens: Float[np.ndarray, " points"] | float | int,
        experts: Float[np.ndarray, " points"] | float | int,
    ) -> Float[np.ndarray, " points"] | float:
        """Loss of `active` billion parameters after `tokens` billion tokens with `experts` experts."""
        n, d = np.asarray(active, np.float64), np.asarray(tokens, np.float64)
        if not ((n > 0).all() and (d > 0).all()):
            raise InputError("Active parameters and tokens (in billions) above 0 were expected.")
        e = np.log(effective_experts(experts))
        size = self.A * np.exp(self.delta * e + (self.alpha + self.gamma * e) * np.log(n))
        data = self.B * np.exp(self.omega * e + (self.beta + self.zeta * e) * np.log(d))
        found = size + data + self.c
        return found if np.ndim(found) else float(found)

    @property
    def vector(self) -> Float[np.ndarray, " 9"]:
        return np.array(astuple(self))

    def to_dict(self) -> dict[str, float]:
        return dict(zip(COEFFICIENTS, astuple(self)))

    @classmethod
    def from_dict(cls, kept: Mapping[str, float]) -> Law:
        return cls(**{name: float(kept[name]) for name in COEFFICIENTS})


COEFFICIENTS = tuple(each.name for each in fields(Law))
# A third party's account of the paper's fit over E (RMSE .0076 there); the paper's own table was not readable.
PUBLISHED = Law(0.2388, 0.0906, -0.2833, 0.0387, 0.6019, 1.0593, -0.3210, -0.3684, 1.9730)
