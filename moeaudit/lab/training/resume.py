"""Stopping and going on: an interrupt waits for the end of a step, and what is kept is restored exactly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Resumable:
    """A training that goes on from its saved state as if it had not stopped."""

    step: int
    seconds: float
    model: Any
    optimisers: list[torch.optim.Optimizer]

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on, apart from the text."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state` of a training of the same model and settings."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


class Waiting:
    """Whether somebody asked to stop; `answer` lets whoever listened before have its way."""

    def __init__(self) -> None:
        self.asked: tuple[int, Any] | None = None
        self.before: dict[int, Any] = {}

    def note(self, number: int, frame: Any) -> None:
        """Take down a signal; a second one is not kept waiting."""
        if self.asked is not None:
            self.answer()
        self.asked = (number, frame)

    def answer(self) -> None:
        """Hand on the signal that was noted: KeyboardInterrupt, or what the command makes of SIGTERM."""
        if self.asked is None:
            return
        (number, frame), self.asked = self.asked, None
        listener = self.before[number]
        if callable(listener):
            listener(number, frame)
        raise KeyboardInterrupt


@contextmanager
def between_steps() -> Iterator[Waiting]:
    """Inside, Ctrl-C and SIGTERM are noted, for the loop to answer between two steps. In a thread, nothing changes."""
    waiting = Waiting()
    if threading.current_thread() is not threading.main_thread():
        yield waiting
        return
    # What somebody else installed and python cannot give back (None) is left alone, as is a signal that is ignored.
    for number in _SIGNALS:
        if callable(signal.getsignal(number)):
            waiting.before[number] = signal.signal(number, waiting.note)
    try:
        yield waiting
    finally:
        for number, listener in waiting.before.items():
            signal.signal(number, listener)
