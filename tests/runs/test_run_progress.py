"""What a run says of itself while it runs: how far, how fast, how long yet, how much memory."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

from moeaudit.runs.progress import LogProgress, held


def test_a_library_caller_gets_rate_time_left_and_memory(caplog):
    progress = LogProgress()
    with caplog.at_level(logging.INFO, logger="moeaudit"):
        progress.stage("census", 1000, "removals", 200)
        progress._since -= 10.0
        progress.advance(500)
    said = caplog.messages[-1]
    assert said.startswith("census: 700 of 1,000 removals after 10 s, 50/s, 6 s left, ")
    assert said.endswith(held()) or re.search(r"[\d.]+ GB held$", said)


def test_memory_is_what_the_process_holds():
    # In a process of its own: in this one other tests' memory comes and goes.
    code = (
        "import numpy as np; from moeaudit.frames.pace import _resident; before = _resident(); "
        "block = np.ones(400_000_000, dtype=np.uint8); print(_resident() - before, block.sum())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    grown, total = out.split()
    assert 3.9e8 < float(grown) < 4.5e8 and int(total) == 400_000_000


def test_to_say_it_loads_nothing_heavy():
    code = "import sys; from moeaudit.runs.progress import held; held(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
