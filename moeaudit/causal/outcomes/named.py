"""Outcomes besides delta NLL, KL and flip: named ones, a logit contrast, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError
from moeaudit.frames.shown import paragraph

from ..effects import COLUMNS, TOP
from .compare import Measure


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    log_p = torch.log_softmax(logits.float(), -1)
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(torch.float32).min)).sum(-1)


def delta_entropy(clean: torch.Tensor, edited: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    r"""$H(p') - H(p)$ with $H(p) = -\sum_v p_v \log p_v$, in nats."""
    return _entropy(edited) - _entropy(clean)[:, None]


def delta_confidence(
    clean: torch.Tensor,
    edited: torch.Tensor,
    target: torch.Tensor,  # noqa: ARG001
) -> torch.Tensor:
    r"""$\max_v p'_v - \max_v p_v$: the probability of whatever the model now holds most likely."""
    before = torch.softmax(clean.float(), -1).amax(-1)
    return torch.softmax(edited.float(), -1).amax(-1) - before[:, None]


def delta_brier(clean: torch.Tensor, edited: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    r"""Change of the Brier score $\sum_v (p_v - 1[v = y])^2$ (Brier 1950, all classes; 0 to 2)."""

    def score(logits: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(logits.float(), -1)
        return (p * p).sum(-1) - 2 * p.gather(-1, place[..., None]).squeeze(-1) + 1

    after = score(edited, target[:, None].expand(edited.shape[:2]))
    return after - score(clean, target)[:, None]


NAMED: dict[str, Measure] = {
    "delta_entropy": delta_entropy,
    "delta_confidence": delta_confidence,
    "delta_brier": delta_brier,
}


@dataclass(frozen=True)
class LogitContrast:
    r"""$(z'_a - z'_b) - (z_a - z_b)$: how an edit moves the logit of token a against that of b.

    `a` and `b` are token ids. In nats, since it is the change of $\log p_a / p_b$.
    """

    a: int
    b: int

    def __post_init__(self) -> None:
        for token in (self.a, self.b):
            if not isinstance(token, int) or isinstance(token, bool):
                raise InputError(
                    f"LogitContrast({self.a!r}, {self.b!r}): two token ids were expected. Look them up with "
                    "model.tokenizer.convert_tokens_to_ids."
                )

    def _repr_html_(self) -> str:
        return paragraph(
            f"{self!r}: how an edit moves the logit of token {self.a} against that of token {self.b}, in nats; "
            f"the column {self.name}."
        )

    @property
    def name(self) -> str:
        return f"contrast_{self.a}_{self.b}"

    def __call__(
        self,
        clean: Float[torch.Tensor, "positions vocab"],
        edited: Float[torch.Tensor, "positions rows vocab"],
        target: Int[torch.Tensor, " positions"],  # noqa: ARG002
    ) -> Float[torch.Tensor, "positions rows"]:
        self.require_tokens(clean.shape[-1])
        after = edited[..., self.a] - edited[..., self.b]
        return (after - (clean[:, self.a] - clean[:, self.b])[:, None]).float()

    def require_tokens(self, vocab: int) -> None:
        """Raise InputError for a token that the model does not predict."""
        for token in (self.a, self.b):
            if not 0 <= token < vocab:
                raise InputError(
                    f"LogitContrast({self.a}, {self.b}): token {token} does not exist; the model predicts ids "
                    f"from 0 to {vocab - 1}. Look ids up with model.tokenizer."
                )


Outcome = str | LogitContrast | Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def further_outcomes(outcomes: Iterable[Outcome]) -> dict[str, Measure]:
    """Functions by column name. A function of one's own is named after itself.

    Named outcomes and contrasts are computed beside delta NLL and KL, in blocks of the vocabulary where the model's
    head is linear. A function of one's own gets whole logits of a block of rows, which takes longer.

    Raises InputError for an unknown name, or a column that is there already.
    """
    if isinstance(outcomes, str) or not isinstance(outcomes, Iterable):
        raise InputError(
            f"outcomes = {outcomes!r}: a list was expected, such as ['delta_entropy', 'delta_brier']."
        )
    chosen: dict[str, Measure] = {}
    for outcome in outcomes:
        if isinstance(outcome, str):
            name = outcome if outcome.startswith("delta_") else f"delta_{outcome}"
            if name not in NAMED:
                raise InputError(
                    f"There is no outcome called {outcome!r}. Expected one of {', '.join(NAMED)}, a "
                    "LogitContrast(a, b), or a function of (clean logits, edited logits, target)."
                )
            measure: Measure = NAMED[name]
        elif callable(outcome):
            name = outcome.name if isinstance(outcome, LogitContrast) else _name_of(outcome)
            measure = outcome if isinstance(outcome, LogitContrast) else _checked(name, outcome)
        else:
            raise InputError(f"{outcome!r} is not an outcome: expected a name or a function.")
        if name in chosen or name in (*COLUMNS, TOP):
            raise InputError(
                f"The outcome {name!r} would be a second column of that name. Rename the function."
            )
        chosen[name] = measure
    return chosen


def _name_of(function: Callable[..., torch.Tensor]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    if not name.isidentifier():
        raise InputError(
            f"An outcome's function is named {name!r}, which is no name for a column. Write it with "
            "`def name(clean, edited, target): ...`."
        )
    return name


def _checked(name: str, function: Measure) -> Measure:
    """The user's function, held to the shape that a column needs."""

    def measure(clean: torch.Tensor, edited: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # Copies, so that a function that works in place cannot change what others measure.
        value = function(clean.clone(), edited.clone(), target.clone())
        expected = tuple(edited.shape[:2])
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != expected:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise InputError(
                f"The outcome {name!r} returned {got}; one number for each position and row was expected, a "
                f"tensor of shape {expected}, from clean {tuple(clean.shape)}, edited {tuple(edited.shape)} and "
                f"target {tuple(target.shape)}."
            )
        return value

    return measure
