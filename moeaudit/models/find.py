"""Find a model's MoE layers by the router contract, and refuse, by name, what does not keep it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import nn

from moeaudit.errors import ContractError, ModelError

from .anatomy import Anatomy, MoELayer
from .contract import ExpertsCall, Probe, check_call, declared_moe_layers
from .contract.probe import run_probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FIRST_NUMBER = re.compile(r"^(?P<stack>.*?)\.(?P<index>\d+)(?:\.|$)")
CONTRACT_SINCE = (5, 6)  # the release of transformers in which experts are called so
_EXPERT_COUNTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")


def looks_like_experts(path: str, module: nn.Module) -> bool:
    """A container of several experts, whatever it is called with."""
    if isinstance(module, nn.ModuleList) or not any(True for _ in module.parameters()):
        return False
    named = path.split(".")[-1] == "experts" or type(module).__name__.endswith("Experts")
    return named or hasattr(module, "_apply_gate")


def split_path(path: str) -> tuple[str, int] | None:
    """`"model.layers.3.mlp.experts"` -> `("model.layers", 3)`."""
    match = _FIRST_NUMBER.match(path)
    return (match["stack"], int(match["index"])) if match else None


def newer() -> str:
    """The hint to a newer transformers, where the one installed is old enough to need it."""
    import transformers

    release = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if release >= CONTRACT_SINCE:
        return ""
    return "; a version of this architecture in transformers >= 5.6 may keep the contract"


def find_anatomy(model: PreTrainedModel, probe: Probe | None = None) -> Anatomy:
    """Find and verify the MoE layers of `model` from one short forward pass (`probe`, or a new one).

    Raises ModelError for a model without experts and ContractError for a MoE whose experts are
    not called as `experts(hidden, top_k_index, top_k_weights)`, or whose slot contributions do
    not sum to the routed output, or that declares MoE layers which were not seen.
    """
    architecture = type(model).__name__
    probe = run_probe(model) if probe is None else probe
    called = [call.path for call in probe.calls]
    probe.calls = _without_wrappers(probe.calls)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    suspects: dict[str, nn.Module] = {
        path: m for path, m in modules.items() if looks_like_experts(path, m)
    }
    if not probe.calls:
        _refuse_without_calls(model, architecture, suspects, modules)

    stack = split_path(probe.calls[0].path)
    decoder = modules.get(stack[0]) if stack else None
    if stack is None or not isinstance(decoder, nn.ModuleList):
        raise ContractError(
            f"{architecture}: the experts at '{probe.calls[0].path}' do not sit in a list of decoder "
            "layers (a path such as 'model.layers.3.mlp.experts' was expected), so there is no "
            "layer to name. This model cannot be audited."
        )

    layers: dict[int, MoELayer] = {}
    for call in probe.calls:
        place = split_path(call.path)
        if place is None or place[0] != stack[0]:
            raise ContractError(
                f"{architecture}: experts were called at '{call.path}' and at "
                f"'{probe.calls[0].path}', which are not layers of one decoder. Only models with a "
                "single stack of decoder layers can be audited."
            )
        if place[1] in layers:
            raise ContractError(
                f"{architecture}: layer {place[1]} calls two groups of routed experts "
                f"('{layers[place[1]].experts_path}' and '{call.path}'). One group a layer was "
                "expected, so that (layer, expert) names one thing."
            )
        if not call.index.shape[1]:
            raise ContractError(
                f"{architecture}, layer {place[1]}: the router chooses 0 experts for a token, so there is none to "
                "remove. Put num_experts_per_tok right in config.json."
            )
        check_call(architecture, place[1], call, probe)
        # Wrappers of the experts are no part of what holds them.
        outermost = min(
            (path for path in called if call.path.startswith(f"{path}.")), default=call.path
        )
        layers[place[1]] = _layer(architecture, place, call, outermost, probe, modules)

    notes = _coverage(model, architecture, stack[0], layers, suspects, probe)
    notes += _stale(probe.calls, layers)
    ordered = tuple(layers[index] for index in sorted(layers))
    return Anatomy(architecture, stack[0], tuple(decoder), ordered, tuple(notes))


def _without_wrappers(calls: list[ExpertsCall]) -> list[ExpertsCall]:
    """Leave out modules that only hand the call on to experts inside them, as TransformerLens's do."""

    def hands_on(outer: ExpertsCall) -> bool:
        return any(
            inner.path.startswith(outer.path + ".") and torch.equal(inner.output, outer.output)
            for inner in calls
        )

    return [call for call in calls if not hands_on(call)]


def _layer(
    architecture: str,
    place: tuple[str, int],
    call: ExpertsCall,
    outermost: str,
    probe: Probe,
    modules: dict[str, nn.Module],
) -> MoELayer:
    path = f"{place[0]}.{place[1]}"
    said, held = _counts(call)
    count = said if held is None else held
    if count is None:
        raise ContractError(
            f"{architecture}, layer {place[1]}: {type(call.module).__name__} at '{call.path}' does not say "
            "how many experts it holds. An attribute `num_experts` (a whole number), or weights of "
            "shape (experts, ..., ...), was expected; without it experts that no token "
            "chose would be left out. Set `num_experts` on the module."
        )
    router_path = _router(path, call, probe, count)
    if said is not None and said != count and router_path is None:
        # Experts without weights of their own (identities) count too, if the router scores them.
        count, router_path = said, _router(path, call, probe, said)
    total = call.weight.float().sum(-1)
    block_path = outermost.rpartition(".")[0]
    return MoELayer(
        index=place[1],
        path=path,
        experts_path=call.path,
        experts=call.module,
        router_path=router_path,
        router=modules[router_path] if router_path else None,
        num_experts=count,
        top_k=call.index.shape[1],
        weights_sum_to_one=bool((total - 1).abs().max() < 1e-3),
        block_path=block_path,
        block=modules[block_path],
        architecture=architecture,
    )


def _counts(call: ExpertsCall) -> tuple[int | None, int | None]:
    """How many experts a module says it holds, and how many its weights hold; None where it does not tell.

    LongCat-Flash's identity experts have no second matrix, so the longest stack counts.
    """
    said = getattr(call.module, "num_experts", None)
    if isinstance(
        said, int
    ):  # zero experts stand behind the others and have no weights (experts/zero.py)
        said += getattr(call.module, "zero_experts", 0)
    stacked = [p.shape[0] for p in call.module.parameters() if p.dim() == 3]
    return said if isinstance(said, int) else None, max(stacked, default=None)


def _stale(calls: list[ExpertsCall], layers: dict[int, MoELayer]) -> list[str]:
    """A note on layers whose `num_experts` is not the number of experts that they hold."""
    off = []
    for call in calls:
        place, said = split_path(call.path), _counts(call)[0]
        if place is not None and said is not None and said != layers[place[1]].num_experts:
            off.append((place[1], said, layers[place[1]].num_experts))
    if not off:
        return []
    layer, said, held = off[0]
    return [
        f"layer {layer} says num_experts = {said}, but its weights and its router hold {held} experts, which is "
        f"what counts" + (f"; likewise in {len(off) - 1} more layers" if len(off) > 1 else "")
    ]


def _router(layer_path: str, call: ExpertsCall, probe: Probe, count: int) -> str | None:
    """The module of this layer whose output scores every expert for every token, if there is one.

    The contract's router returns the very index that the experts get. Where none does (the block
    chooses by itself from plain scores), a module called gate or router is taken; else None.
    """

    def scores(tensors: tuple[torch.Tensor, ...]) -> bool:
        size = probe.n_tokens * count
        return any(t.numel() == size and t.shape[-1] == count for t in tensors)

    def hands_over(path: str) -> bool:
        return any(t.data_ptr() == call.index.data_ptr() for t in probe.outputs[path])

    within = f"{layer_path}."
    candidates = [
        path
        for path, tensors in probe.outputs.items()
        if path.startswith(within) and not path.startswith(call.path) and scores(tensors)
    ]
    given = [path for path in candidates if hands_over(path)]
    named = [path for path in candidates if re.search(r"gate|router", path.split(".")[-1])]
    return min(given or named, key=lambda path: path.count("."), default=None)


def _coverage(
    model: PreTrainedModel,
    architecture: str,
    stack: str,
    layers: dict[int, MoELayer],
    suspects: dict[str, nn.Module],
    probe: Probe,
) -> list[str]:
    notes = []
    seen = {layer.experts_path for layer in layers.values()}
    for path, module in suspects.items():
        if any(path == each or each.startswith(path + ".") for each in seen):
            continue
        place = split_path(path)
        inside = place is not None and place[0] == stack
        if inside and place is not None and place[1] not in layers:
            how = "was called with other arguments" if path in probe.called else "was never called"
            raise ContractError(
                f"{architecture}, layer {place[1]}: {type(module).__name__} at '{path}' {how}; "
                "experts(hidden, top_k_index, top_k_weights) was expected. The layer would be left "
                "out of the audit without a word, so the model is refused."
            )
        notes.append(
            f"{type(module).__name__} at '{path}' takes no part in reading text; not audited"
        )
    declared = declared_moe_layers(model.config.get_text_config(), len(model.get_submodule(stack)))  # type: ignore[arg-type]
    missing = sorted(set(declared or []) - set(layers))
    if missing:
        raise ContractError(
            f"{architecture}: the configuration declares MoE layers {sorted(declared or [])}, but layers "
            f"{missing} called no experts(hidden, top_k_index, top_k_weights). Every declared layer must "
            "be covered; this model is refused."
        )
    return notes


def _refuse_without_calls(
    model: PreTrainedModel,
    architecture: str,
    suspects: dict[str, nn.Module],
    modules: dict[str, nn.Module],
) -> NoReturn:
    lists = {
        path: module
        for path, module in modules.items()
        if isinstance(module, nn.ModuleList)
        and path.split(".")[-1] == "experts"
        and len(module) > 1
    }
    for path, module in (suspects | lists).items():
        place = split_path(path)
        where = f"layer {place[1]}" if place else f"'{path}'"
        raise ContractError(
            f"{architecture}, {where}: {type(module).__name__} at '{path}' is not called as "
            "experts(hidden, top_k_index, top_k_weights) with shapes (tokens, d), (tokens, k), "
            "(tokens, k). Models that route in another way (a list of expert modules, dense "
            f"dispatch, expert choice) cannot be audited{newer()}."
        )
    config = model.config.get_text_config()
    declared = [name for name in _EXPERT_COUNTS if (getattr(config, name, 0) or 0) > 1]
    if declared:
        raise ContractError(
            f"{architecture}: the configuration declares {declared[0]} = {getattr(config, declared[0])}, but no "
            "module was called as experts(hidden, top_k_index, top_k_weights). This model is refused."
        )
    raise ModelError(
        f"{architecture} is not a Mixture-of-Experts model: none of its {len(modules)} modules was "
        "called with routed experts. Give a MoE such as OLMoE, Qwen2-MoE or DeepSeek-V2; "
        "`moeaudit models` lists the bundled ones."
    )
