"""Training of experts and gates alone: the trunk stays as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.store.files import replacing

from ..training.balance import load_balance, router_z
from ..training.data import Mixture, Tokens

_TRAINED = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight")
_HEAD_ROWS = 512  # tokens whose logits stand at once
_EXPERTS = "moeaudit_upcycling_experts"
_KEEP = 10  # steps between checkpoints


@dataclass(frozen=True)
class Tuning:
    """Settings of `train_experts`. Rates warm up, stay, and fall to zero over the last third."""

    steps: int = 100
    rows: int = 8  # a multiple of the number of domains
    length: int = 128  # tokens
    rate: float = 2e-4  # AdamW: experts
    router_rate: float = 1e-3  # AdamW: gates
    balance: float = 0.01  # coefficient of the load-balancing loss, a mean over layers
    z: float = 0.001  # coefficient of the router z-loss, a mean over layers
    warmup: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.rows, self.length) < 1:
            raise InputError(
                f"steps, rows and length must be 1 or more, not {self.steps}, {self.rows}, {self.length}."
            )

    def factor(self, step: int) -> float:
        """Factor on the learning rates at `step` (from 0)."""
        left = (self.steps - step) / max(1, self.steps // 3)
        return min(1.0, (step + 1) / max(1, self.warmup), left)


def train_experts(
    model: Any,
    documents: dict[str, list[Tokens]],
    tuning: Tuning = Tuning(),
    *,
    low: bool = False,
    parameters: tuple[str, ...] = _TRAINED,
    checkpoint: Path | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """Train a model's experts and gates in place on `documents`; one row a step: `step, nll, balance, z, seconds`.

    `documents`: token arrays by domain; every step reads equal parts of each (`Mixture`), so that models trained with
    one `tuning` read the same. `nll` is in nats a token. `low`: matrix products in bfloat16. `parameters`: ends of the
    names of what is trained; others keep their values bit for bit and are made to require no gradient for the time.
    `checkpoint`: a file that every tenth step is kept in, and that an interrupted training goes on from.

    Raises ModelError if the model has no such parameters or the loss is no number, InputError for text that cannot
    be divided, RunError for a checkpoint of another training.
    """
    names = {name: p for name, p in model.named_parameters() if name.endswith(parameters)}
    if not names:
        raise ModelError(f"{type(model).__name__} has no parameters that end in {parameters}.")
    mixture = Mixture(documents, tuning.seed)
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    implementation = getattr(model.config, "_experts_implementation", None)
    routers: list[tuple[Tensor, Tensor]] = []
    gates = [m for name, m in model.named_modules() if name.endswith("mlp.gate")]
    handles = [
        gate.register_forward_hook(lambda _m, _a, out: routers.append((out[0].float(), out[2])))
        for gate in gates
    ]
    optimiser = torch.optim.AdamW(
        [
            {
                "params": [p],
                "lr": tuning.router_rate if name.endswith("gate.weight") else tuning.rate,
            }
            for name, p in names.items()
        ],
        betas=(0.9, 0.95),
        weight_decay=0.0,
        fused=True,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    log: list[dict[str, Any]] = []
    if checkpoint is not None and checkpoint.is_file():
        log = _restored(checkpoint, tuning, names, optimiser)
    try:
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
        if gates:
            _register()
            model.set_experts_implementation(_EXPERTS)
        model.train()
        start = time.perf_counter() - (log[-1]["seconds"] if log else 0.0)
        with _frozen_in_bfloat16(model, names) if low else nullcontext():
            for step in range(len(log), tuning.steps):
                for group, rate in zip(optimiser.param_groups, rates):
                    group["lr"] = rate * tuning.factor(step)
                batch = torch.from_numpy(mixture.batch(step, tuning.rows, tuning.length))
                routers.clear()
                row = {"step": step + 1, **_step(model, batch, routers, tuning, low)}
                if row["nll"] != row["nll"]:
                    raise ModelError(f"The loss is no number at step {step + 1}. Use a lower rate.")
                torch.nn.utils.clip_grad_norm_(names.values(), 1.0)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                row["seconds"] = round(time.perf_counter() - start, 2)
                log.append(row)
                if checkpoint is not None and (step + 1) % _KEEP == 0:
                    _keep(checkpoint, tuning, names, optimiser, log)
                if progress is not None:
                    progress(row)
    finally:
        for handle in handles:
            handle.remove()
        for name, p in model.named_parameters():
            p.requires_grad_(wanted[name])
        if gates and implementation is not None:
            model.set_experts_implementation(implementation)
        model.eval()
    return pd.DataFrame(log)


def _keep(
    path: Path, tuning: Tuning, names: dict[str, Tensor], optimiser: Any, log: list[dict[str, Any]]
) -> None:
    weights = {name: p.detach() for name, p in names.items()}
    state = {"tuning": asdict(tuning), "weights": weights, "log": log}
    with replacing(path) as partial:
        torch.save({**state, "optimiser": optimiser.state_dict()}, partial)


def _restored(
    path: Path, tuning: Tuning, names: dict[str, Tensor], optimiser: Any
) -> list[dict[str, Any]]:
    state = torch.load(path, weights_only=True)
    if state["tuning"] != asdict(tuning) or set(state["weights"]) != set(names):
        raise RunError(
            f"{path} is of another training: {state['tuning']}. Give the same settings, or delete it to begin anew."
        )
    with torch.no_grad():
        for name, p in names.items():
            p.copy_(state["weights"][name])
    optimiser.load_state_dict(state["optimiser"])
    return state["log"]


def _experts(self: Any, hidden: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """The class's own loop, with the stack taken apart once: its gradient is then put together once, not per expert."""
    out = torch.zeros_like(hidden)
    for e, (w_in, w_out) in enumerate(zip(self.gate_up_proj.unbind(), self.down_proj.unbind())):
        token, slot = (index == e).nonzero(as_tuple=True)
        gate, up = torch.nn.functional.linear(hidden[token], w_in).chunk(2, dim=-1)
        each = torch.nn.functional.linear(self.act_fn(gate) * up, w_out)
        out = out.index_add(0, token, (each * weight[token, slot, None]).to(out.dtype))
    return out


def _register() -> None:
    from transformers.integrations.moe import ExpertsInterface

    ExpertsInterface.register(_EXPERTS, _experts)


@contextmanager
def _frozen_in_bfloat16(model: Any, trained: dict[str, Tensor]) -> Iterator[None]:
    """Linear weights that are not trained as bfloat16 for the time, so that no step casts them again."""
    tied = {p.data_ptr() for name, p in model.named_parameters() if "embed" in name}
    kept = {
        module.weight: module.weight.data
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and f"{name}.weight" not in trained
        and module.weight.data_ptr() not in tied
        and module.bias is None
    }
    try:
        for weight in kept:
            weight.data = weight.data.bfloat16()
        yield
    finally:
        for weight, data in kept.items():
            weight.data = data


def _step(
    model: Any, batch: Tensor, routers: list[tuple[Tensor, Tensor]], tuning: Tuning, low: bool
) -> dict[str, float]:
    """Gradients of one batch, left on the parameters; returns its losses."""
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=low):
        hidden = model.model(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
        nll, grad = _head(model.lm_head, hidden.flatten(0, 1), batch[:, 1:].reshape(-1))
    balance = z = hidden.new_zeros(())
    if routers:
        balance = torch.stack([load_balance(*pair) for pair in routers]).mean()
        z = torch.stack([router_z(logits) for logits, _ in routers]).mean()
    extra = tuning.balance * balance + tuning.z * z
    if extra.requires_grad:
        torch.autograd.backward([hidden, extra], [grad.view_as(hidden), None])
    else:
        hidden.backward(grad.view_as(hidden))
    return {"nll": nll, "balance": balance.item(), "z": z.item()}


def _head(head: Any, hidden: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Mean NLL in nats and its gradient on `hidden`, a block of tokens at a time: logits are wide."""
    leaf = hidden.detach().requires_grad_()
    total = 0.0
    for i in range(0, len(leaf), _HEAD_ROWS):
        s = slice(i, i + _HEAD_ROWS)
        logits = head(leaf[s]).float()
        loss = torch.nn.functional.cross_entropy(logits, target[s], reduction="sum") / len(leaf)
        loss.backward()
        total += loss.item()
    assert leaf.grad is not None
    return total, leaf.grad
