"""The rules of Complete-muE (arXiv 2605.23893), as its authors' table gives them."""

from __future__ import annotations

from dataclasses import dataclass

from moeaudit.errors import InputError


@dataclass(frozen=True)
class Multipliers:
    """What one MoE layer of width d, a active experts of width h and shared experts of width s should have.

    `A` = d / H_act, on the down projections' output, with H_act = a h + s; `R` = a, on the routed sum (of gates that
    sum to one), and 1 on shared experts and in a dense layer; `sigma` = sqrt(H_act / d), the standard deviation at
    which down projections start, as a share of the other matrices' (where H_act = d the two are alike).
    `rho` = d / d*: hidden matrices start at 1 / sqrt(rho) of what they do at the width d* and learn at 1 / rho of the
    rate, and logits are multiplied by 1 / rho.
    """

    hidden: int
    active: int
    width: int
    shared: int = 0
    base: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "active", "width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: at least 1 was expected.")
        if self.shared < 0 or (self.base is not None and self.base < 1):
            raise InputError(
                f"shared = {self.shared}, base = {self.base}: a shared width of 0 or more and a base width of at "
                "least 1 were expected."
            )

    @property
    def active_width(self) -> int:
        """H_act."""
        return self.active * self.width + self.shared

    @property
    def A(self) -> float:  # noqa: N802  # the paper's name
        return self.hidden / self.active_width

    @property
    def R(self) -> float:  # noqa: N802
        return float(self.active)

    @property
    def sigma(self) -> float:
        return (self.active_width / self.hidden) ** 0.5

    @property
    def rho(self) -> float:
        return self.hidden / (self.base or self.hidden)

    @property
    def routed_rate(self) -> float:
        """Factor on the rate of routed down projections into which A R is folded (an optimiser like Adam)."""
        return self.A * self.R / self.rho

    @property
    def shared_rate(self) -> float:
        return self.A / self.rho

    @property
    def routed_start(self) -> float:
        """Factor on the start of routed down projections into which A R is folded: a sqrt(d / H_act) / sqrt(rho)."""
        return self.A * self.R * self.sigma / self.rho**0.5

    @property
    def shared_start(self) -> float:
        return self.A * self.sigma / self.rho**0.5


def multipliers(
    hidden: int, active: int, width: int, shared: int = 0, base: int | None = None
) -> Multipliers:
    """The multipliers of a layer; `multipliers(d, 1, H)` are those of a dense one. Raises InputError below 1."""
    return Multipliers(hidden, active, width, shared, base)
