"""What an edit does directly, what it does by sending tokens to other experts, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from moeaudit.frames.waiting import counting
from moeaudit.models import Model

from ..census import ablate
from ..effects import Effects
from ..facts import Facts, joined

if TYPE_CHECKING:
    from ..operators.routing import Operator


def decompose(
    model: Model,
    docs: Any,
    operator: Operator | None = None,
    *,
    layers: list[int] | None = None,
    horizon: int | Literal["all"] = 0,
    max_length: int | None = None,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> Effects:
    r"""Effects split by path: direct or through routing; own token or through attention.

    Two exact walks: one in which later routers answer what they see (`delta_nll`), one in which
    they keep their clean answers (`direct_nll`); the difference is what went through routing,

    $$\Delta = \Delta_{direct} + \Delta_{routing}, \qquad \Delta_{routing} := \Delta - \Delta_{direct},$$

    the natural direct effect of Pearl (2001) with the answers of all later routers as the mediator
    (their choice and their weights), and its complement. With a `horizon` the same holds for the
    tokens after the edit, which it can reach through attention only: `total_nll` = `delta_nll` (own
    token) + `spill_nll` (later tokens), and both are split into `..._direct` and `..._routing`.
    All in nats. `kl_direct` is the KL of the frozen walk; KL is not additive, so it has no rest.
    `progress` is called with the number of new rows of either walk; see `ablate`.
    The table's question is that of the first walk, with these outcomes besides.

    Raises InputError as `ablate` does.
    """
    options: dict[str, Any] = {"layers": layers, "horizon": horizon, "max_length": max_length}
    with counting(progress, "decompose", 2, "walks") as tell:
        rows = tell if callable(progress) else None
        live = ablate(model, docs, operator, progress=rows, **options)
        if rows is None:
            tell(1)
        frozen = ablate(model, docs, operator, frozen_routing=True, progress=rows, **options)
        if rows is None:
            tell(1)
    assert isinstance(live, Effects) and isinstance(frozen, Effects)
    keys = ["document", "position", "layer", "rank", "expert"]
    if not live[keys].equals(frozen[keys]):
        raise RuntimeError("the two walks of decompose() did not give the same rows")
    parts = {
        "direct_nll": frozen["delta_nll"],
        "routing_nll": live["delta_nll"] - frozen["delta_nll"],
        "kl_direct": frozen["kl"],
    }
    if "spill_nll" in live:
        parts |= {
            "spill_direct": frozen["spill_nll"],
            "spill_routing": live["spill_nll"] - frozen["spill_nll"],
            "total_nll": live["delta_nll"] + live["spill_nll"],
        }
    whole = pd.concat([pd.DataFrame(live), pd.DataFrame(parts)], axis=1)
    question = replace(live.question, outcomes=(*live.question.outcomes, *parts))
    both = [replace(found.facts, question=question).to_dict() for found in (live, frozen)]
    return Effects.of(whole, Facts.from_dict(joined(both)), live.texts, live.operator)
