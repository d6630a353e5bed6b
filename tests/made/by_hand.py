"""Routers and forwards written out by hand: what operators are held to. Shares nothing with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from made import architectures

# (hidden "tokens d", index "tokens k", weight "tokens k") -> index, weight "tokens slots"
Answer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def build(name: str, **changes: Any) -> torch.nn.Module:
    """A tiny model whose router has something to show: a correction bias, normalised weights."""
    model = architectures.BY_NAME[name].build(**changes)
    generator = torch.Generator().manual_seed(5)
    for path, buffer in model.named_buffers():
        if path.endswith("e_score_correction_bias"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
    return model


def document(tokens: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, architectures.VOCABULARY, (tokens,), generator=generator)


def forward(
    model: Any,
    ids: torch.Tensor,
    answers: dict[torch.nn.Module, Answer] | None = None,
    outputs: dict[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]] | None = None,
) -> torch.Tensor:
    """Float64 log-probabilities, `"tokens vocab"`, with experts' answers and modules' outputs edited."""
    with ExitStack() as stack, torch.no_grad():
        for experts, answer in (answers or {}).items():

            def before(module: Any, args: tuple, kwargs: dict, answer: Any = answer) -> Any:
                hidden, index, weight = [*args, *kwargs.values()]
                index, weight = answer(hidden, index.clone(), weight.clone())
                return (hidden, index, weight.to(hidden.dtype)), {}

            handle = experts.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
        for module, change in (outputs or {}).items():

            def after(module: Any, args: tuple, output: Any, change: Any = change) -> Any:
                return change(output.clone())

            stack.callback(module.register_forward_hook(after).remove)
        logits = model(input_ids=ids[None], use_cache=False).logits
    return torch.log_softmax(logits[0].double(), -1)


def block(model: Any, layer: int) -> Any:
    decoder = model.model.layers[layer]
    return decoder.feed_forward if model.config.model_type == "jamba" else decoder.mlp


@torch.no_grad()
def choose(
    model: Any, layer: int, x: torch.Tensor, banned: set[int], scores: str
) -> tuple[list[int], list[float]]:
    """The experts and weights that one token `x`, `"d"`, gets when `banned` may not be chosen."""
    config, moe = model.config, block(model, layer)
    kind, k = config.model_type, config.num_experts_per_tok
    router = moe.router if kind in ("gpt_oss", "jamba") else moe.gate
    logits = router.weight.double() @ x.double()
    if kind == "gpt_oss":
        logits = logits + router.bias.double()
        best = _best(logits, k, banned)
        return best, torch.softmax(logits[best], 0).tolist()
    if kind == "deepseek_v3":
        probability = torch.sigmoid(logits)
        wanted = probability + router.e_score_correction_bias.double()
        allowed = _of_best_groups(config, wanted, banned, members=2)
        best = _best(wanted, k, banned | allowed)
        weight = probability[best] / probability[best].sum() * config.routed_scaling_factor
        return best, weight.tolist()
    if scores == "remaining":
        for expert in banned:
            logits[expert] = -torch.inf
    probability = torch.softmax(logits, 0)
    out = set()
    if kind == "deepseek_v2" and config.topk_method == "group_limited_greedy":
        out = _of_best_groups(config, probability, banned, members=1)
    best = _best(probability, k, banned | out)
    weight = probability[best]
    if kind == "mixtral" or getattr(config, "norm_topk_prob", False) and kind != "deepseek_v2":
        weight = weight / weight.sum()
    if kind == "deepseek_v2":
        weight = weight * config.routed_scaling_factor
    return best, weight.tolist()


def _best(scores: torch.Tensor, k: int, left_out: set[int]) -> list[int]:
    order = sorted(range(len(scores)), key=lambda e: -float(scores[e]))
    return [e for e in order if e not in left_out][:k]


def _of_best_groups(config: Any, scores: torch.Tensor, banned: set[int], members: int) -> set[int]:
    """The experts outside of the groups that a token may choose from."""
    groups = torch.arange(len(scores)).view(config.n_group, -1).tolist()

    def worth(group: list[int]) -> float:
        best = sorted((float(scores[e]) for e in group if e not in banned), reverse=True)
        return sum(best[:members]) if len(best) >= members else -float("inf")

    ranked = sorted(groups, key=worth, reverse=True)
    return {expert for group in ranked[config.topk_group :] for expert in group}


def answered(
    model: Any, layer: int, scores: str, banned_at: Callable[[int, set[int]], set[int]]
) -> Answer:
    """The layer's answer with `banned_at(position, active)` banned; positions without stay as they are."""

    def answer(
        hidden: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for t in range(len(index)):
            banned = banned_at(t, set(index[t].tolist()))
            if banned:
                best, value = choose(model, layer, hidden[t], banned, scores)
                index[t] = torch.tensor(best)
                weight[t] = torch.tensor(value).to(weight.dtype)
        return index, weight

    return answer
