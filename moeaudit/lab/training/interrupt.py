"""An interrupt waits for the end of a step, so that the state that is kept is a whole one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
