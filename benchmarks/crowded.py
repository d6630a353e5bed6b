"""What other work on the machine costs a census: alone and beside busy processes, by how its threads wait.

    python benchmarks/crowded.py                 # two busy processes; a census of tiny-olmoe in each setting

Each figure is a fresh process that counts its own census only; the settings take turns, and the median of the rounds
is shown. A fair share of `cores` cores beside `busy` processes is threads / (threads + busy) of each core's time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# torch first, so that the environment alone decides how its threads wait.
CENSUS = """
import time
import torch
import numpy as np
import moeaudit as ma
model = ma.load({model!r})
ids = [np.random.default_rng(i).integers(0, model.vocab_size, {tokens}) for i in range({documents})]
ma.ablate(model, ids[:1])
start = time.perf_counter()
rows = len(ma.ablate(model, ids))
print(rows / (time.perf_counter() - start))
"""
SPIN = "while True: pass"
# The second is what `import moeaudit` sets.
POLICIES = ("as OpenMP has it", "GOMP_SPINCOUNT=20000", "OMP_WAIT_POLICY=PASSIVE")


def rate(options: argparse.Namespace, threads: int, policy: str) -> float:
    """Removals a second of one census in a process of its own."""
    script = CENSUS.format(model=options.model, tokens=options.tokens, documents=options.documents)
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        env.pop(name, None)
    if policy != "as OpenMP has it":
        name, _, value = policy.partition("=")
        env[name] = value
    command = [sys.executable, "-c", script]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=options.patience
        )
    except subprocess.TimeoutExpired:
        return float("nan")  # slower than the whole patience: named in the table
    return float(done.stdout.split()[-1])


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Inside, so many processes compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def main(arguments: list[str] | None = None) -> dict[tuple[int, int, str], list[float]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny-olmoe")
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=240, help="seconds for one process")
    options = parser.parse_args(arguments)
    cores = os.cpu_count() or 1
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    settings = [
        (beside, threads, policy)
        for beside in (0, options.busy)
        for threads, policy in (*((cores, policy) for policy in POLICIES), (1, POLICIES[0]))
    ]
    found: dict[tuple[int, int, str], list[float]] = {each: [] for each in settings}
    for _ in range(options.rounds):
        for beside, threads, policy in settings:
            with busy(beside):
                found[beside, threads, policy].append(rate(options, threads, policy))
    print(
        "| busy processes beside | threads | wait | removals a second (rounds) |\n|---|---|---|---|"
    )
    for (beside, threads, policy), rates in found.items():
        rounds = ", ".join("too slow" if r != r else f"{r:,.0f}" for r in rates)
        said = "too slow" if any(r != r for r in rates) else f"{statistics.median(rates):,.0f}"
        print(f"| {beside} | {threads} | {policy} | {said} ({rounds}) |")
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
