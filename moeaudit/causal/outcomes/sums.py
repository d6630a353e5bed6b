"""Outcomes from sums over the vocabulary, for a linear head that is measured in blocks.

`compare` and `named` say what each outcome is; here is the same number from sums that can be added
up block by block. With x the change of the logits less a constant, $E = e^x - 1$ and $S = \\sum_v p_v
E_v$, the edited probabilities are $p'_v = p_v (1 + E_v) / (1 + S)$.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from . import named
from .compare import Measure, Outcomes
from .linear import Clean, Sums, information, summed


def effects(
    clean: Clean,
    change: torch.Tensor,  # (places, rows, d_model)
    extra: Mapping[str, Measure],
    at_once: int,
    widened: int,
    tops: bool = False,
) -> Outcomes:
    """Effects of rows whose hidden state before the head is changed by `change`, `"places rows"`.

    Rows in which $e^x$ overflows come out as NaN or infinite, and are to be measured by `compare`.
    """
    wanted = {sum_ for measure in extra.values() for sum_ in needed(measure)}
    found = summed(clean, change, at_once, widened, wanted, tops)
    grew = found.grown.log1p()
    columns = {name: _column(measure, found).float() for name, measure in extra.items()}
    kl = (grew - found.left).clamp_min(0.0)
    return Outcomes((grew - found.at_target).float(), kl.float(), found.flip, columns, found.top)


def fusable(extra: Mapping[str, Measure]) -> bool:
    """Whether all further outcomes are sums over the vocabulary; a user's own function needs whole logits."""
    return all(isinstance(x, named.LogitContrast) or x in _NAMED for x in extra.values())


def needed(measure: Measure) -> tuple[str, ...]:
    """The sums of `Sums.more` that an outcome is made of."""
    return () if isinstance(measure, named.LogitContrast) else _NAMED[measure][0]


def _column(measure: Measure, found: Sums) -> torch.Tensor:
    return (
        _contrast(measure, found)
        if isinstance(measure, named.LogitContrast)
        else _NAMED[measure][1](found)
    )


def _contrast(contrast: named.LogitContrast, found: Sums) -> torch.Tensor:
    head = found.clean.head
    contrast.require_tokens(head.vocab)
    a, b = head.words(torch.tensor([contrast.a, contrast.b], device=found.change.device))
    return found.change.to(a.dtype) @ (a - b)


def _entropy(found: Sums) -> torch.Tensor:
    r"""$\log(1 + S) - (\sum p E \log p + \sum p x (1 + E) + H S) / (1 + S)$."""
    s, before = found.grown, -information(found.clean.p).sum(-1, keepdim=True)
    moved = found.more["information"] + found.left + found.more["crossed"] + before * s
    return s.log1p() - moved / (1 + s)


def _confidence(found: Sums) -> torch.Tensor:
    r"""$p_{top} (e^m - 1 - S) / (1 + S)$, where m is by how much the largest logit stands above the old one's."""
    s, most = found.grown, found.above.clamp_min(0.0)
    return found.clean.p_top * (most.expm1() - s) / (1 + s)


def _brier(found: Sums) -> torch.Tensor:
    r"""Change of $\sum p^2$ and of $-2 p_y$; $\sum p'^2 = \sum p^2 (1 + E)^2 / (1 + S)^2$."""
    s, clean, more = found.grown, found.clean, found.more
    squares = (clean.p * clean.p).sum(-1, keepdim=True)
    moved = 2 * more["square"] + more["squared"] - squares * s * (2 + s)
    own = clean.p_at(clean.target) * (found.at_target.expm1() - s) / (1 + s)
    return moved / (1 + s) ** 2 - 2 * own


_NAMED: dict[Measure, tuple[tuple[str, ...], Callable[[Sums], torch.Tensor]]] = {
    named.delta_entropy: (("information", "crossed"), _entropy),
    named.delta_confidence: ((), _confidence),
    named.delta_brier: (("square", "squared"), _brier),
}
