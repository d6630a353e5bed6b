"""What a census costs, before anything is loaded: work, memory, time, and how many documents it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moeaudit.causal.operators.routing import rows_by_layer
from moeaudit.causal.walk.several.sample import share_of
from moeaudit.errors import InputError
from moeaudit.models.accounting.config import config_of, stored_bytes
from moeaudit.models.accounting.shapes import Shapes, shapes_of

from ..spec import WITHOUT_NATS
from .calibrate import EFFICIENCY, measured
from .estimate import Cost
from .flops import lengths_of, work_of
from .machine import Machine, stated
from .material import reading
from .memory import memory_of
from .needed import DESIGN_EFFECT, documents_planned

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator

TOKENS = 128
FLOAT32 = 4  # bytes of one


def cost(
    model: Any,
    docs: Any = None,
    *,
    operator: Operator | str | None = None,
    layers: list[int] | None = None,
    documents: int | None = None,
    tokens: int = TOKENS,
    max_length: int | None = None,
    share: Any = 1.0,
    metrics: Iterable[str] | None = None,
    sesoi: str | float | int | None = None,
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    seed: int = 0,
    dtype: Any = None,
    device: Any = None,
    device_map: Any = None,
    max_memory: Any = None,
    offload: str | None = "auto",
    machine: Machine | str | None = None,
    efficiency: float | int = EFFICIENCY,
    revision: str | None = None,
) -> Cost:
    """What an audit of `model` would cost, from its configuration alone: no weights are loaded.

    Parameters
    ----------
    model
        A bundled name, a folder that holds config.json, a hub id, or a transformers configuration.
    docs
        The text (as for `audit`); its tokens are counted with the model's tokenizer. None: `documents`
        documents (default 160) of `tokens` tokens each.
    operator, layers, max_length, metrics, sesoi, alpha, seed
        As for `audit`; of operators those that edit one position.
    share
        The part of all removals that is made, above 0 and up to 1.
    power
        With which `sesoi` (0.1 in d_z if None) is to be decided in every cell; only a bound in d_z can be
        planned for without a pilot (`documents_needed` takes the others).
    dtype, device
        As for `load`; what is computed on here, if `machine` is None.
    device_map, max_memory, offload
        As for `load`: they decide whether weights are streamed, and whether the model fits.
    machine
        "laptop", "card-24gb", "h100", "ray-8" (stated, see `costs.STATED`) or a `Machine`; None measures
        this one, in about ten seconds.
    efficiency
        A census' operations a second over those of a plain forward, where this machine is measured.

    Raises ModelError for a model without configuration or without routed experts, InputError for
    numbers that cannot be.
    """
    import torch

    from moeaudit.models.placement import require_device, require_dtype
    from moeaudit.models.placement.asked import asked
    from moeaudit.models.placement.fits import budget_of
    from moeaudit.observe.metrics import METRICS

    if not 0 < efficiency <= 1:
        raise InputError(f"efficiency = {efficiency}: a part above 0 and up to 1 was expected.")
    given = stated(machine) if isinstance(machine, str) else machine
    where = None if device is None else require_device(device)
    placed = asked(where, device_map, max_memory, offload, None)
    sized = None if isinstance(max_memory, dict) else budget_of(max_memory, placed.on)
    kind: Any = None if dtype in (None, "auto") else require_dtype(dtype)
    made = _operator(operator)
    found = config_of(model, revision)
    shapes = shapes_of(found)
    limit = shapes.max_length
    read = reading(
        found, docs, documents=documents, tokens=tokens, max_length=max_length, limit=limit,
        vocab=shapes.vocab, seed=seed,
    )  # fmt: skip
    chosen = shapes.anatomy.select(layers)
    born = rows_by_layer(made, chosen)
    share = share_of(share)
    work = work_of(shapes, lengths_of(read.effect), born, share)
    # Routing is captured in a clean pass of its own, and metrics on documents of their own.
    clean = work_of(shapes, lengths_of([*read.effect, *read.metric]), {}).clean
    notes, stored, item = _stored(found, shapes, kind)
    # Half precision on a CPU is computed in float32, unless it passes a check that only loading can make.
    widens = kind is None and item < FLOAT32 and placed.offload is not None
    on_cpu = (given.device if given else str(where or "cpu")).startswith("cpu")
    widest = FLOAT32 if widens and on_cpu else None
    if given is None:
        fits = shapes.parameters * max(item, widest or item) < 0.5 * _free(where)
        computed = kind or (torch.float32 if on_cpu else _stored_dtype(found))
        given = measured(
            found, shapes, work.head_share, device=where or "cpu", dtype=computed,
            efficiency=efficiency, disk=not fits,
        )  # fmt: skip
    count = max(1, read.documents)
    length = sum(read.effect) / count
    plan = memory_of(
        shapes, work.rows / count, length, count, item, given,
        compute=FLOAT32 if on_cpu else None, budget=sized, offload=placed.offload, widest=widest,
    )  # fmt: skip
    names = len(METRICS) if metrics is None else len(list(metrics))
    sesoi = WITHOUT_NATS if sesoi is None else sesoi  # one in nats needs a pilot's noise
    needed = documents_planned(length, names * len(chosen), sesoi=sesoi, alpha=alpha, power=power)
    if device_map is not None:
        notes.append(
            f"device_map = {device_map!r} spreads weights over devices; memory and time are those of one of them"
        )
    if share != 1:
        every = round(work.rows / share)
        notes.append(
            f"a stratified sample of {every:,} {'removals' if made.name == 'zero' else 'effects'} that are possible; "
            "the clean pass of every document is whole, whatever the share (docs/methods/sampling.md)"
        )
    if not shapes.by_rows:
        notes.append(
            "some layers mix tokens otherwise than by softmax attention: each counterfactual is a whole forward"
        )
    return Cost(
        name=found.name,
        origin=found.origin,
        shapes=shapes,
        work=work,
        passes=clean,
        memory=plan,
        machine=given,
        documents=read.documents,
        tokens=sum(read.effect),
        layers=tuple(layer.index for layer in chosen),
        unit="removals" if made.name == "zero" else "effects",
        share=share,
        bytes=stored,
        needed=needed,
        asked={"sesoi": str(sesoi), "alpha": alpha, "power": power, "metrics": names}
        | {"design_effect": DESIGN_EFFECT, "operator": made.name},
        notes=(*notes, *read.notes),
    )


def _operator(given: Operator | str | None) -> Operator:
    from moeaudit.causal.operators import Zero
    from moeaudit.causal.operators.routing import require_operator

    from ..operators import operator_of

    made = operator_of(given) if isinstance(given, str) else Zero() if given is None else given
    require_operator(made)
    if made.scope != "position":
        raise InputError(
            f"{made.name} edits every position of a document, which needs whole edited copies and not rows; the "
            "estimate is for edits of one position, such as zero or reroute. docs/benchmarks-operators.md has "
            "measured times of the others."
        )
    return made


def _free(device: Any) -> float:
    from .machine import free_memory

    return float(free_memory(device or "cpu"))


def _stored_dtype(found: Any) -> Any:
    """The dtype that is stored: float32 for bundled models, else as the configuration says."""
    import torch

    if found.bundled:
        return torch.float32
    said = getattr(found.config, "dtype", None)
    said = getattr(torch, said, None) if isinstance(said, str) else said
    return said if isinstance(said, torch.dtype) and said.is_floating_point else torch.bfloat16


def _stored(found: Any, shapes: Shapes, kind: Any) -> tuple[list[str], dict[str, int], float]:
    """(notes, bytes of the checkpoint by dtype, bytes of one weight in memory)."""
    dtype = kind or _stored_dtype(found)
    files = {} if found.folder is None else stored_bytes(found.folder)
    if files:
        stored = {_names().get(name, name.lower()): size for name, size in files.items()}
    else:
        stored = {str(dtype).removeprefix("torch."): shapes.parameters * dtype.itemsize}
    notes = []
    if found.quantised is not None:
        notes.append(
            f"the checkpoint is quantised ({found.quantised}); bytes and memory are counted as dequantised to "
            f"{str(dtype).removeprefix('torch.')}"
        )
    elif not found.bundled and kind is None and getattr(found.config, "dtype", None) is None:
        notes.append("the configuration names no dtype; bfloat16 is assumed")
    return notes, stored, float(dtype.itemsize)


def _names() -> dict[str, str]:
    return {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
