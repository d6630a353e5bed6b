"""A local Ray cluster of two workers: equal tables for one worker, for two, and with one killed mid-run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# No token in the user's home, and no worker killed because others use the machine's memory.
OURS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}

SCRIPT = """
import logging, os, signal, sys, threading
from pathlib import Path
import ray, torch
from made import tiny_run
from made.same import tables
from moeaudit.errors import RunError
from moeaudit.front import audit

torch.set_num_threads(1)
place = Path(sys.argv[1])
folder = tiny_run.save(place / "tiny")
asked = dict(docs=tiny_run.TEXTS, tokens=6, layers=[0, 2], verify_rows=1, verify_engines=("hooks",))
try:
    audit(folder, out=place / "none", executor="ray", **asked)
except RunError as error:
    assert "No Ray cluster runs here. Start one with ray start --head" in str(error), error
else:
    raise AssertionError("there was a cluster")
assert not (place / "none").exists()

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
alone = tables(audit(folder, out=place / "alone", **asked).folder)
one = audit(folder, out=place / "one", executor="ray", workers=1, **asked)
assert tables(one.folder) == alone and not any("lost" in note for note in one.record["notes"])

killed = []

class Kill(logging.Handler):
    # A worker that runs is given documents at once; a second later it is loading the model or measuring.
    def emit(self, record):
        if record.msg.startswith("a worker runs") and not killed:
            killed.append(record.args[0])
            threading.Timer(1.0, os.kill, (record.args[0], signal.SIGKILL)).start()

logging.getLogger("moeaudit").addHandler(Kill())
logging.getLogger("moeaudit").setLevel(logging.INFO)
two = audit(folder, out=place / "two", executor="ray", **asked)
assert tables(two.folder) == alone
assert killed and any(note.startswith("A worker was lost") for note in two.record["notes"]), two.record["notes"]
print("equal")
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed: pip install moeaudit[ray]",
)
def test_tables_are_those_of_one_process_whatever_the_workers_and_with_one_killed(tmp_path):
    path = os.pathsep.join(["tests", str(ROOT), *sys.path])
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={**env, **OURS, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("equal\n")
