"""A second device on a machine that has one: real numbers on the CPU, behind tensors that say they are elsewhere.

Tensors moved to `DEVICE` are wrapped. An operation on them runs on the CPU tensors inside; one that
mixes them with CPU tensors is an error, as it is on any accelerator (numbers without a dimension may
come from the CPU). What brings numbers back is counted: a program that asks an accelerator for a
number waits until all work given to it so far is done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("privateuseone:0")
# Operations that take numbers from tensors to the program, or whose shape depends on numbers.
_ASKING = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "unique_consecutive",
    "_unique2",
}
# A number from the CPU may be written into a tensor of any device, and indices may come from it.
_MIXING = {"copy_", "_to_copy", "index_put_"}


def prepare() -> None:
    """Have torch believe in the device; for the whole process, so give the test one of its own."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend()


class There(torch.Tensor):
    """A tensor that says it is on `DEVICE`; `here` is the CPU tensor that holds its numbers."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
            requires_grad=here.requires_grad,
        )
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.here!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the second device outside of `SecondDevice`")


class _Below(TorchFunctionMode):
    """What torch does below every dispatch: tensors from lists, and other numbers for a tensor."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        to = kwargs.get("device")
        if func is torch.tensor and to is not None and torch.device(to).type == DEVICE.type:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        if func == torch.Tensor.data.__set__ and isinstance(args[0], There):  # type: ignore[attr-defined]
            args[0].here = args[1].here
        return func(*args, **kwargs)


class SecondDevice(TorchDispatchMode):
    """Inside, tensors can be made on `DEVICE` and moved to it; `asked` counts what was brought back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.lists = _Below()

    def __enter__(self) -> Any:
        self.lists.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.lists.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__.split(".")[0]
        given: list[torch.Tensor] = []
        tree_map(lambda x: given.append(x) if isinstance(x, torch.Tensor) else None, (args, kwargs))
        there = [x for x in given if isinstance(x, There)]
        asked_for = kwargs.get("device")
        to = torch.device(asked_for) if asked_for is not None else None
        if to is not None and to.type == DEVICE.type:
            kwargs["device"] = torch.device("cpu")
        elif to is not None and there:
            self.asked[f"to {to}"] += 1
        if there and name in _ASKING:
            self.asked[name] += 1
        strangers = [x for x in given if not isinstance(x, There) and x.dim() > 0]
        if there and strangers and name not in _MIXING:
            raise RuntimeError(
                f"{func}: tensors on {DEVICE} and on the CPU together, shapes "
                f"{[tuple(x.shape) for x in there]} and {[tuple(x.shape) for x in strangers]}"
            )
        plain = lambda x: x.here if isinstance(x, There) else x  # noqa: E731
        args, kwargs = tree_map(plain, args), tree_map(plain, kwargs)
        if name == "histc":  # accelerators count whole numbers, the CPU does not
            result = func(args[0].float(), *args[1:], **kwargs).to(args[0].dtype)
        else:
            result = func(*args, **kwargs)
        stays = (bool(there) and (to is None or to.type == DEVICE.type)) or (
            to is not None and to.type == DEVICE.type
        )
        if not stays:
            return result
        same = {id(x.here): x for x in there}

        def wrap(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            # An operation in place returns the tensor itself.
            return same[id(x)] if id(x) in same else There(x)

        return tree_map(wrap, result)


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """The module with its parameters and buffers on the second device, in place."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = torch.nn.Parameter(There(p.detach()), requires_grad=False)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = There(b)
    return module
