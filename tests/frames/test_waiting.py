"""What a long call shows: nothing at first, then a line; the outermost alone; nowhere where nobody watches."""

from __future__ import annotations

import io
import sys
import time
import types

import pytest

import moeaudit.frames.waiting as waiting
from moeaudit.errors import InputError
from moeaudit.frames.waiting import Cell, Terminal, counting, parts, screen, stages


class Paper:
    """A screen that keeps what is drawn on it."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, float | None]] = []
        self.ended: list[str] = []

    def draw(self, line, share):
        self.drawn.append((line, share))

    def end(self, line):
        self.ended.append(line)


@pytest.fixture
def paper(monkeypatch):
    found = Paper()
    monkeypatch.setattr(waiting, "screen", lambda: found)
    monkeypatch.setattr(waiting, "AFTER", 0.05)
    monkeypatch.setattr(waiting, "EVERY", 0.0)
    return found


def test_a_quick_call_shows_nothing(paper):
    with counting(None, "quick", 3, "rows") as tell:
        tell(3)
    assert not paper.drawn and not paper.ended


def test_a_long_call_shows_its_share_rate_and_time(paper):
    with counting(None, "long", 8, "rows") as tell:
        tell(2)
        time.sleep(0.6)
        tell(2)
    line, share = paper.drawn[-1]
    assert line.startswith("long: 50% of 8 rows, ") and share == 0.5
    assert " rows/s, " in line and " left, " in line and line.endswith("held")
    assert len(paper.ended) == 1 and paper.ended[0].startswith("long: 4 rows in 0:00:01")


def test_the_line_comes_before_the_first_piece_is_done(paper):
    with counting(None, "slow", 8, "rows"):
        deadline = time.perf_counter() + 10
        while not paper.drawn and time.perf_counter() < deadline:
            time.sleep(0.01)
    assert paper.drawn[0][0] == "slow: 0% of 8 rows"


def test_of_calls_inside_calls_the_outermost_shows(paper):
    with counting(None, "outer", 1, "walks"):
        time.sleep(0.1)
        with counting(None, "inner", 5, "rows") as tell:
            time.sleep(0.1)
            tell(5)
    assert paper.ended and all(not line.startswith("inner") for line, _ in paper.drawn)


@pytest.mark.parametrize("progress", [False, lambda _: None], ids=["False", "own"])
def test_silence_holds_for_calls_inside(paper, progress):
    with counting(progress, "outer", 1, "walks"), counting(None, "inner", 1, "rows") as tell:
        time.sleep(0.1)
        tell(1)
    assert not paper.drawn


def test_a_function_of_ones_own_is_told_and_nothing_is_drawn(paper):
    heard = []
    with counting(heard.append, "own", 5, "rows") as tell:
        tell(2)
        tell(3)
    with parts(lambda done, of: heard.append((done, of)), "own", 5, "groups") as tell:
        tell(1, 5)
    assert heard == [2, 3, (1, 5)] and not paper.drawn


def test_parts_add_up(paper):
    with parts(None, "groups", 4, "groups") as tell:
        time.sleep(0.1)
        for i in range(1, 5):
            tell(i, 4)
    assert [share for _, share in paper.drawn][-1] == 1.0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_call_that_ends_early_says_so_and_gives_its_turn_back(paper, error):
    with pytest.raises(error), counting(None, "cut", 4, "rows") as tell:
        time.sleep(0.1)
        tell(1)
        raise error
    assert paper.ended[-1].startswith("stopped; cut: 25% of 4 rows")
    with counting(None, "next", 1, "rows") as tell:
        time.sleep(0.1)
        tell(1)
    assert paper.ended[-1].startswith("next: 1 rows")


def test_stages_follow_each_other_and_notes_are_warnings(paper, caplog):
    with stages(None) as told:
        told.stage("one", 2, "rows")
        time.sleep(0.1)
        told.advance(2)
        told.note("left out")
        told.stage("two", 2, "rows", done=1)
    assert {line.split(":")[0] for line, _ in paper.drawn} == {"one", "two"}
    assert "left out" in caplog.messages


def test_what_is_no_function_is_refused():
    with pytest.raises(InputError, match="progress = 'yes'"), counting("yes", "x", 1, "rows"):
        pass


def test_nobody_watches_a_script(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert screen() is None
    monkeypatch.setattr(sys, "stderr", None)
    assert screen() is None


class Tty(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line_written_over_itself(monkeypatch):
    out = Tty()
    monkeypatch.setattr(sys, "stderr", out)
    found = screen()
    assert isinstance(found, Terminal)
    found.draw("half", 0.5)
    found.end("whole")
    assert out.getvalue() == "\rhalf\x1b[K\rwhole\x1b[K\n"
    monkeypatch.setenv(waiting.SWITCH, "0")
    assert screen() is None


def test_a_notebook_gets_one_output_updated_in_place(monkeypatch):
    shown = []

    class Handle:
        def update(self, said, raw):
            shown.append(("update", said))

    def display(said, raw, display_id):
        assert raw and display_id
        shown.append(("display", said))
        return Handle()

    fake = types.ModuleType("IPython")
    fake.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    inside = types.ModuleType("IPython.display")
    inside.display = display
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", inside)
    found = screen()
    assert isinstance(found, Cell)
    found.draw("<b>: 50%", 0.5)
    found.end("done")
    assert [kind for kind, _ in shown] == ["display", "update"]
    first = shown[0][1]
    assert first["text/plain"] == "<b>: 50%" and "value='0.500'" in first["text/html"]
    assert "<b>" not in first["text/html"] and "widget" not in str(first)
