"""The largest tensor that a program makes, by a mode that sees every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Largest(TorchDispatchMode):
    """Inside, `numbers` is the size of the largest floating-point storage that an operation gave back."""

    def __init__(self, counts: Callable[[torch.Tensor], bool] = lambda _: True) -> None:
        super().__init__()
        self.counts, self.numbers, self.shape = counts, 0, ()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        old = {
            x.untyped_storage().data_ptr() for x in given
        }  # views and results in place are not made
        for x in tree_flatten(result)[0]:
            if not isinstance(x, torch.Tensor) or x.untyped_storage().data_ptr() in old:
                continue
            if x.is_floating_point() and self.counts(x):
                numbers = x.untyped_storage().nbytes() // x.element_size()
                if numbers > self.numbers:
                    self.numbers, self.shape = numbers, tuple(x.shape)
        return result
