"""Which layer a check has come to, said now and then: a large model's takes minutes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from moeaudit.models import Model

EVERY = 10.0  # seconds between lines
# A logger of its own, which the command line shows; a small model's check ends before it says anything.
_LOG = logging.getLogger("moeaudit.checking")


@contextmanager
def told(model: Model, doing: str) -> Iterator[None]:
    """Inside, a pass over `model` says how far it has come, when it takes longer than a few seconds."""
    last = time.perf_counter()
    layers = model.anatomy.decoder_layers

    def hook(i: int):
        def say(*_: Any) -> None:
            nonlocal last
            if time.perf_counter() - last >= EVERY:
                last = time.perf_counter()
                _LOG.info("%s: checking %s: layer %d of %d", model.name, doing, i + 1, len(layers))

        return say

    with ExitStack() as stack:
        for i, layer in enumerate(layers):
            stack.callback(layer.register_forward_pre_hook(hook(i)).remove)
        yield
