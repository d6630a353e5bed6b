"""Evaluation mode for the length of a pass, whatever mode the caller left the model in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

_TURNS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_MAKING = threading.Lock()


def _turn(model: nn.Module) -> threading.RLock:
    with _MAKING:
        return _TURNS.setdefault(model, threading.RLock())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout and no router jitter inside; modules that were training are training again after.

    Passes over one model in several threads take turns: they read and edit it through hooks, and
    would hear each other. The lock is the model's own and re-entrant; whoever needs the turn of all
    walks as well takes it inside this one, never the other way round.
    """
    with _turn(model):
        training = [module for module in model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True
