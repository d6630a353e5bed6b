"""Experts that several layers share: how a checkpoint says so, and how its one copy comes back to all of them.

transformers declares shared tensors on a class (`_tied_weights_keys`), for the embedding. Which layers of a model
share their experts is a fact of one checkpoint, so it stands in its config.json, under `expert_tying`: `keys` maps the
path of each follower's experts to its leader's. The files then hold the leader's tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from moeaudit.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..anatomy import Anatomy

MARK = "expert_tying"

T = TypeVar("T")


def tied_paths(config: Any) -> dict[str, str]:
    """Paths of followers' experts, each with its leader's; empty for a configuration that ties nothing.

    Raises ModelError for a mark that does not say it so.
    """
    mark = getattr(config, MARK, None)
    if mark is None:
        return {}
    keys = mark.get("keys") if isinstance(mark, Mapping) else None
    if not isinstance(keys, Mapping) or not keys or not all(map(_is_path, (*keys, *keys.values()))):
        raise ModelError(
            f"config.json says {MARK} = {mark!r}, and {{'keys': {{follower: leader, ...}}}}, paths of experts modules, "
            "was expected, as moeaudit.lab.tie writes it. Take the config.json that was saved with the weights."
        )
    return {str(follower): str(leader) for follower, leader in keys.items()}


def _is_path(value: object) -> bool:
    return isinstance(value, str) and "." in value


def tied_class(auto: Any, config: Any) -> Any:
    """`auto`, or for a checkpoint with tied experts its class, declaring the shared tensors to transformers.

    Raises ModelError where a path names no experts module of the class, once a model is made of it.
    """
    paths = tied_paths(config)
    if not paths:
        return auto
    base = auto._model_mapping[type(config)]  # noqa: SLF001

    def expanded(self: Any, all_submodels: bool = False) -> dict[str, str]:
        own = base.get_expanded_tied_weights_keys(self, all_submodels=all_submodels)
        return own | tied_keys(self, paths)

    return type(base.__name__, (base,), {"get_expanded_tied_weights_keys": expanded})


def tied_keys(hf: Any, paths: Mapping[str, str]) -> dict[str, str]:
    """Each follower's tensors by name, with the leader's. Raises ModelError for paths the model does not have."""
    modules = dict(hf.named_modules())
    missing = [path for path in (*paths, *paths.values()) if path not in modules]
    if missing:
        raise ModelError(
            f"config.json ties the experts at '{missing[0]}', and {type(hf).__name__} has no such module. Take the "
            "config.json that was saved with the weights."
        )
    return {
        f"{follower}.{name}": f"{leader}.{name}"
        for follower, leader in paths.items()
        for name, parameter in modules[leader]._parameters.items()  # noqa: SLF001
        if parameter is not None
    }


def share(hf: PreTrainedModel) -> None:
    """Have followers hold their leaders' tensors, as the configuration says; for a model built without weights.

    Raises ModelError for paths the model does not have.
    """
    for follower, leader in tied_keys(hf, tied_paths(hf.config)).items():
        path, _, name = follower.rpartition(".")
        hf.get_submodule(path)._parameters[name] = hf.get_parameter(leader)  # noqa: SLF001


def declare(hf: PreTrainedModel, keys: Mapping[str, str]) -> None:
    """Tell transformers, on this very model, which of its tensors are others': `save_pretrained` then keeps one."""
    kept: Any = hf
    kept._tied_weights_keys = {**(hf._tied_weights_keys or {}), **keys}  # noqa: SLF001
    kept.all_tied_weights_keys = {**getattr(hf, "all_tied_weights_keys", {}), **keys}


def undeclare(hf: PreTrainedModel, keys: Mapping[str, str]) -> None:
    """Take back what `declare` said."""
    kept: Any = hf
    for name in ("_tied_weights_keys", "all_tied_weights_keys"):
        left = {k: v for k, v in (getattr(hf, name, None) or {}).items() if k not in keys}
        setattr(kept, name, left or None if name == "_tied_weights_keys" else left)


def plain_class(hf: PreTrainedModel) -> PreTrainedModel:
    """The model read by `tied_class` as one of its own class again, with the declaration on itself."""
    paths = tied_paths(hf.config)
    if paths and "get_expanded_tied_weights_keys" in vars(type(hf)):
        keys = tied_keys(hf, paths)
        hf.__class__ = type(hf).__mro__[1]
        declare(hf, keys)
    return hf


def aliased(stored: Mapping[str, T], config: Any) -> dict[str, T]:
    """What is in the files, and the leaders' tensors once more under each follower's names.

    For layers that are brought one by one: each then has the experts that it uses.
    """
    more = {
        f"{follower}{name.removeprefix(leader)}": one
        for follower, leader in tied_paths(config).items()
        for name, one in stored.items()
        if name.startswith(f"{leader}.")
    }
    return {**stored, **more}


def shared_notes(hf: PreTrainedModel, anatomy: Anatomy) -> list[str]:
    """What a reader must know of a model whose layers share experts; nothing of others."""
    if anatomy.tied:
        groups = "; ".join(" and ".join(map(str, group)) for group in anatomy.tied)
        return [
            f"layers share one bank of experts: {groups}. Parameters of a bank are counted once; a removal in one "
            "layer leaves the bank's other layers as they are (moeaudit.Bank removes an expert in all of them)"
        ]
    if tied_paths(hf.config):
        return [
            "config.json ties the experts of several layers; streamed layers each bring a copy of their own"
        ]
    return []
