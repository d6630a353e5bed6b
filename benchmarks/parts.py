"""Where the time of a census goes: the clean forward, rows through the layers, births, outcomes, and the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

import moeaudit as ma
from moeaudit.causal.attention import reroute
from moeaudit.causal.walk.wavefront import Wavefront


def parts(model: ma.Model, texts: list[torch.Tensor], rounds: int) -> dict[str, float]:
    """Milliseconds of one document's census by part, means over `rounds`, after one that warms up.

    `rows` includes `rows_attention` (scores, softmax and mixture, not the projections) and `rows_experts`; `rest` is
    the table, the plan and whatever else happens between calls. Raises ValueError for a model whose rows are born by
    running the layer again, which would be counted twice, and where no rows go.
    """
    took: Counter[str] = Counter()
    ma.ablate(model, texts)
    with ExitStack() as stack:
        for owner, name, part in (
            (Wavefront, "run", "walk"),
            (Wavefront, "_give_birth", "births"),
            (Wavefront, "outcomes", "outcomes"),
            (reroute, "attend_rows", "rows_attention"),
        ):
            stack.enter_context(_timed(owner, name, part, took))
        inside: list[str] = []
        stack.enter_context(_noted(Wavefront, "_give_birth", inside))
        of = lambda: "rows within births" if "_give_birth" in inside else "rows"  # noqa: E731
        stack.enter_context(_timed(Wavefront, "_through", of, took))
        stack.enter_context(_noted(Wavefront, "_through", inside))
        within = lambda: "rows_experts" if "_through" in inside else None  # noqa: E731
        for moe in model.anatomy.layers:
            stack.enter_context(_timed(moe.experts, "forward", within, took))
        start = time.perf_counter()
        for _ in range(rounds):
            ma.ablate(model, texts)
        whole = time.perf_counter() - start
    if not took["rows"] or took["rows within births"]:
        raise ValueError(
            f"{model.name}: only a census by rows that are born by addition has these parts"
        )
    found = {"whole": whole, **took}
    found["clean"] = found.pop("walk") - sum(found[x] for x in ("rows", "births", "outcomes"))
    found["rest"] = whole - sum(found[x] for x in ("rows", "births", "outcomes", "clean"))
    return {name: round(1e3 * s / rounds / len(texts), 2) for name, s in sorted(found.items())}


@contextmanager
def _timed(
    owner: Any, name: str, part: str | Callable[[], str | None], took: Counter[str]
) -> Iterator[None]:
    """Inside, calls of `owner.name` are timed as this part, or as the one that `part()` says, if any."""
    with _around(owner, name) as (real, put):

        def timed(*args: Any, **kwargs: Any) -> Any:
            counts = part if isinstance(part, str) else part()
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                if counts is not None:
                    took[counts] += time.perf_counter() - start

        put(timed)
        yield


@contextmanager
def _noted(owner: Any, name: str, inside: list[str]) -> Iterator[None]:
    """Inside, `name` stands in `inside` for as long as a call of `owner.name` takes."""
    with _around(owner, name) as (real, put):

        def noted(*args: Any, **kwargs: Any) -> Any:
            inside.append(name)
            try:
                return real(*args, **kwargs)
            finally:
                inside.pop()

        put(noted)
        yield


@contextmanager
def _around(owner: Any, name: str) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """What `owner.name` is, and how to put something in its place until the end."""
    real, own = getattr(owner, name), name in vars(owner)
    try:
        yield real, lambda other: setattr(owner, name, other)
    finally:
        setattr(owner, name, real) if own else delattr(owner, name)
