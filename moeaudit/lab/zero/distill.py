"""Self-distillation in two stages: the frozen original teaches itself with zero experts (or with half the top-k)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from moeaudit.errors import InputError
from moeaudit.models.experts.zero import ZeroExperts, blocks_of
from moeaudit.seeds import check_seed, generator

from .loss import group_loss
from .sample import continued


@dataclass(frozen=True)
class Distillation:
    """How long, on what, and how fast. Steps of 0 leave a stage out.

    `texts` are sampled from the teacher once, `length` tokens each of which `prompt` are given; a step of the
    first stage reads `rows` of them, one of the second samples `rows` from the student. `alpha` and `weight` are
    those of the group loss. Rates are AdamW's, the first falling as a cosine after a tenth of warm-up, the second
    constant, as in the released scripts of ZEDA (there 2e-5 and 5e-6, of models ten thousand times larger).
    """

    sft_steps: int = 300
    policy_steps: int = 60
    texts: int = 512
    rows: int = 16
    length: int = 96
    prompt: int = 16
    sft_rate: float = 1e-3
    policy_rate: float = 2e-4
    alpha: float = 0.1
    weight: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("sft_steps", "policy_steps"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} = {getattr(self, name)}: a number of steps, 0 or more, was expected."
                )
        for name in ("texts", "rows", "prompt"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: at least 1 was expected.")
        if self.length <= self.prompt:
            raise InputError(
                f"length = {self.length} leaves nothing to write after a prompt of {self.prompt} tokens."
            )


def self_distill(
    student: nn.Module,
    teacher: nn.Module,
    prompts: Int[np.ndarray, "documents prompt"],
    how: Distillation | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    r"""Train `student` in place on what `teacher`, which stays as it is, writes and says. Returns the log.

    Stage 1, "sft": the cross-entropy of texts that the teacher sampled. Stage 2, "policy": the student samples, and
    \(\mathrm{KL}(\text{student} \| \text{teacher})\) of every next token after the prompt is lowered (the reverse
    KL: the expectation, over the student's next token, of the log ratio that the released code of ZEDA, arXiv
    2605.18643, estimates by the token that was drawn). Both add the group loss where the student has zero experts.

    `prompts` are beginnings of documents (`sample.beginnings`), drawn with replacement. The log has one row a
    step: stage, step, loss (nats a token, group loss not in it), group (its mean over layers), zero_share (of
    picks). Raises InputError where teacher and student are the same model, or of different vocabularies.
    """
    how = how or Distillation()
    student, teacher = (getattr(each, "hf", each) for each in (student, teacher))
    if student is teacher:
        raise InputError(
            "self_distill() was given one model as teacher and as student; copy.deepcopy(model) before zero experts "
            "are added gives the other."
        )
    config, other = (each.config.get_text_config() for each in (student, teacher))  # type: ignore[operator]
    if config.vocab_size != other.vocab_size:
        raise InputError(
            f"The student has a vocabulary of {config.vocab_size} and the teacher of {other.vocab_size}; the original "
            "of the student was expected."
        )
    device = next(student.parameters()).device
    draws = torch.Generator().manual_seed(int(generator(how.seed, "distil").integers(2**62)))
    choose = generator(how.seed, "prompts")
    rows: list[dict[str, Any]] = []

    def drawn(count: int) -> Int[Tensor, "rows prompt"]:
        return torch.from_numpy(prompts[choose.integers(len(prompts), size=count)]).to(device)

    teacher.eval()
    before = [p.requires_grad for p in teacher.parameters()]
    try:
        for p in teacher.parameters():
            p.requires_grad_(False)
        batch = 4 * how.rows
        texts = [
            continued(teacher, drawn(min(batch, how.texts - a)), how.length, draws)
            for a in range(0, how.texts if how.sft_steps else 0, batch)
        ]
        student.train()
        with _routing(student) as routed:
            for stage, steps in (("sft", how.sft_steps), ("policy", how.policy_steps)):
                step_of = _stepper(student, how, stage, steps)
                for step in range(steps):
                    if stage == "sft":
                        every = torch.cat(texts)
                        ids = every[
                            torch.from_numpy(choose.integers(len(every), size=how.rows)).to(device)
                        ]
                    else:
                        ids = continued(student, drawn(how.rows), how.length, draws)
                    routed.clear()
                    loss = _loss(student, teacher, ids, how.prompt, stage)
                    group, share = _group(student, routed, how)
                    step_of(loss if group is None else loss + group, step)
                    rows.append(
                        {
                            "stage": stage,
                            "step": step,
                            "loss": float(loss.detach()),
                            "group": float("nan") if group is None else float(group.detach()),
                            "zero_share": share,
                        }
                    )
                    if progress is not None:
                        progress(rows[-1])
    finally:
        for p, wanted in zip(teacher.parameters(), before):
            p.requires_grad_(wanted)
        student.eval()
    return pd.DataFrame(rows, columns=["stage", "step", "loss", "group", "zero_share"])


def _loss(
    student: Any, teacher: Any, ids: Int[Tensor, "rows length"], prompt: int, stage: str
) -> Float[Tensor, ""]:
    """Nats a token, of the tokens after the prompt."""
    log_q = (
        student(input_ids=ids, use_cache=False).logits[:, prompt - 1 : -1].float().log_softmax(-1)
    )
    if stage == "sft":
        return -log_q.gather(-1, ids[:, prompt:, None]).mean()
    with torch.no_grad():
        log_p = (
            teacher(input_ids=ids, use_cache=False)
            .logits[:, prompt - 1 : -1]
            .float()
            .log_softmax(-1)
        )
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def _stepper(
    student: nn.Module, how: Distillation, stage: str, steps: int
) -> Callable[[Tensor, int], None]:
    rate = how.sft_rate if stage == "sft" else how.policy_rate
    trained = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    warm = max(1, steps // 10)

    def step_of(loss: Tensor, step: int) -> None:
        factor = min(1.0, (step + 1) / warm)
        if stage == "sft" and step >= warm:
            factor = 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step_of


@contextmanager
def _routing(student: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Inside, the router's logits and picks of every MoE layer are kept, call by call."""
    kept: list[tuple[Tensor, Tensor]] = []

    def hook(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        logits, _, index = output
        kept.append((logits, index))

    handles = [block.router.register_forward_hook(hook) for block in blocks_of(student)]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _group(
    student: Any, routed: list[tuple[Tensor, Tensor]], how: Distillation
) -> tuple[Tensor | None, float]:
    """The group loss, a mean over layers, and the share of picks that fall on zero experts; None and NaN without."""
    zero = ZeroExperts.of(student.config)
    if zero is None:
        return None, float("nan")
    parts = [
        group_loss(logits.float().softmax(-1), index, zero.count, how.weight, how.alpha)
        for logits, index in routed
    ]
    share = np.mean(
        [float((index >= logits.shape[1] - zero.count).float().mean()) for logits, index in routed]
    )
    return torch.stack(parts).mean(), float(share)
