"""What a long call shows while one waits: nothing for two seconds, then one line that is drawn over itself.

In a notebook the line stands in the cell, on a terminal on stderr, elsewhere (a script, a log, a test) nowhere. Of
calls inside calls the outermost shows. `progress=False` or MOEAUDIT_PROGRESS=0 turns it off.
"""

from __future__ import annotations

import contextvars
import html
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from moeaudit.errors import InputError

from .pace import Pace

AFTER = 2.0  # seconds before anything is shown
EVERY = 0.25  # seconds between two drawings
SWITCH = "MOEAUDIT_PROGRESS"
_turn = threading.Lock()  # whoever holds it shows; calls inside do not


@runtime_checkable
class Screen(Protocol):
    def draw(self, line: str, share: float | None) -> None: ...

    def end(self, line: str) -> None: ...


class Cell:
    """One output of a notebook's cell, updated in place; plain text where HTML is not shown."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, line: str, share: float | None) -> None:
        bar = (
            "" if share is None else f"<progress value='{min(share, 1.0):.3f}' max='1'></progress> "
        )
        self._put(line, f"<div>{bar}{html.escape(line)}</div>")

    def end(self, line: str) -> None:
        self._put(line, f"<div>{html.escape(line)}</div>")

    def _put(self, plain: str, page: str) -> None:
        from IPython.display import display

        said = {"text/plain": plain, "text/html": page}
        if self._handle is None:
            self._handle = display(said, raw=True, display_id=True)
        else:
            self._handle.update(said, raw=True)


class Terminal:
    """One line on stderr, written over itself."""

    def draw(self, line: str, share: float | None) -> None:  # noqa: ARG002
        sys.stderr.write(f"\r{line[: _columns() - 1]}\x1b[K")
        sys.stderr.flush()

    def end(self, line: str) -> None:
        sys.stderr.write(f"\r{line}\x1b[K\n")
        sys.stderr.flush()


def screen() -> Screen | None:
    """Where to show it, or None: no person is watching, or asked for silence."""
    if os.environ.get(SWITCH, "1").strip().lower() in ("0", "off", "false", "no"):
        return None
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        return Cell()
    return Terminal() if getattr(sys.stderr, "isatty", bool)() else None


class Waiting(Pace):
    """Stages of work, shown once the call has taken two seconds: what `moeaudit.audit` calls a progress."""

    def __init__(self, where: Screen) -> None:
        super().__init__()
        self.where = where
        self.shown = False
        self._began = self._drawn = time.perf_counter()
        self._one = threading.RLock()
        # The line comes by a clock of its own, since the first piece of work may take a minute. It runs in this
        # call's context, by which a kernel knows the cell.
        context = contextvars.copy_context()
        self._clock = threading.Timer(AFTER, lambda: context.run(self._first))
        self._clock.daemon = True
        self._clock.start()

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        with self._one:
            self.begin(name, total, unit, done)
        self._tick()

    def advance(self, amount: int) -> None:
        self.done += amount
        self._tick()

    def note(self, message: str) -> None:
        """A warning of the logger, as without a line."""
        logging.getLogger("moeaudit").warning(message)

    def close(self, stopped: bool) -> None:
        self._clock.cancel()
        with self._one:
            if self.shown and self.name:
                self.where.end(f"stopped; {self.line()}" if stopped else self.ended())
            self.shown = False

    def _first(self) -> None:
        with self._one:
            if not self._clock.finished.is_set() and self.name:
                self._draw()

    def _tick(self) -> None:
        now = time.perf_counter()
        if now - self._began >= AFTER and now - self._drawn >= EVERY:
            with self._one:
                self._draw()

    def _draw(self) -> None:
        self.shown, self._drawn = True, time.perf_counter()
        self.where.draw(self.line(), self.done / self.total if self.total else None)


class Silent:
    """Tells nobody."""

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def note(self, message: str) -> None:
        pass


@contextmanager
def stages(progress: Any = None, otherwise: Callable[[], Any] = Silent) -> Iterator[Any]:
    """The progress of a call in stages: the one that was given, a line to look at, or `otherwise()`.

    None chooses for itself, False is silent. Calls inside show nothing of their own.
    """
    mine = _turn.acquire(blocking=False)
    where = screen() if mine and progress is None else None
    shown = None if where is None else Waiting(where)
    stopped = True
    try:
        if shown is not None:
            yield shown
        elif progress is None:
            yield otherwise()
        else:
            yield Silent() if progress is False else progress
        stopped = False
    finally:
        if shown is not None:
            shown.close(stopped)
        if mine:
            _turn.release()


@contextmanager
def counting(progress: Any, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """The same for one stage: what is yielded is called with how many units are done besides.

    `progress` is None, False, or the caller's own function, which is handed on as it is. Raises InputError for
    anything else.
    """
    with stages(_line_or_own(progress)) as shown:
        shown.stage(name, total, unit)
        told: Any = progress if callable(progress) else shown.advance
        yield told


@contextmanager
def parts(progress: Any, name: str, total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    """The same, where what is yielded, or was given, is called with (done, in all)."""
    done = 0
    with stages(_line_or_own(progress)) as shown:
        shown.stage(name, total, unit)

        def tell(now: int, of: int) -> None:  # noqa: ARG001
            nonlocal done
            shown.advance(now - done)
            done = now

        told: Any = progress if callable(progress) else tell
        yield told


def _line_or_own(progress: Any) -> Any:
    if progress is None or progress is False:
        return progress
    if not callable(progress):
        raise InputError(
            f"progress = {progress!r}: a function, None (a line after two seconds where somebody watches) or False "
            "(nothing) was expected."
        )
    return Silent()  # the caller's function tells it


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
