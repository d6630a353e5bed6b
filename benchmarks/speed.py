"""How fast the census is beside one full forward per ablation, and beside what FLOPs allow.

    python benchmarks/speed.py            # all bundled models at 64, 128, 256 and 512 tokens

Times are medians over rounds in which all contestants take turns on the same document, so that a
busy machine slows all of them alike. A single ablation by a raw hook, by nnsight or by a TransformerLens
TransformerBridge takes one full forward; it is timed on a random sample of cells, as `moeaudit.verify` runs it,
and each effect is compared with the census's: a contestant that finds another is no contestant.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a script of its own

import moeaudit as ma  # noqa: E402
from benchmarks.flops import Flops  # noqa: E402
from moeaudit.causal.check.engines import make_engine  # noqa: E402
from moeaudit.errors import ModelError  # noqa: E402
from moeaudit.models.precision import rounding  # noqa: E402
from moeaudit.text.for_model import first_tokens  # noqa: E402

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")
LIBRARIES = ("torch", "transformers", "nnsight", "transformer-lens")
WANTED = {128: 300, 512: 1000}  # times nnsight, by tokens
PEERS = ("hooks", "nnsight", "transformer_lens")
BATCH = 16  # documents in the batched clean forward


@dataclass(frozen=True)
class Result:
    """One line of the table. Times in seconds: of one whole census, or of one ablation or forward."""

    model: str
    tokens: int
    ablations: int
    census: float
    hook: float
    nnsight: float
    bridge: float | None  # TransformerLens; None where it cannot remove a single expert
    off: float  # the largest difference of any contestant's effect from the census's, nats
    clean: float  # one document alone
    batched: float  # one document's share of a batch
    ideal: float  # clean forwards that the census needs by FLOPs
    spread: tuple[float, float]  # smallest and largest ratio to nnsight in any round

    @property
    def rate(self) -> float:
        return self.ablations / self.census

    @property
    def times_hook(self) -> float:
        return self.hook * self.rate

    @property
    def times_nnsight(self) -> float:
        return self.nnsight * self.rate

    @property
    def times_bridge(self) -> float | None:
        return None if self.bridge is None else self.bridge * self.rate


def load(name: str) -> ma.Model:
    """The bundled model, or its architecture with random weights where none is bundled yet."""
    if name in ma.bundled_models():
        return ma.load(name)
    from transformers import AutoModelForCausalLM

    from moeaudit.lab.bundled.configs import architecture

    bundled = ma.load(ma.bundled_models()[0])
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(architecture(name, bundled.vocab_size))
    model = ma.load(hf, tokenizer=bundled.tokenizer)
    model.name = f"{name} (random weights)"
    return model


def document(model: ma.Model, tokens: int) -> np.ndarray:
    """The first `tokens` token ids of the first bundled test document that is long enough."""
    return first_tokens(model, ma.corpus("bundled", split="test"), tokens, least=tokens)[0]


def ideal_clean_forwards(model: ma.Model, tokens: int) -> float:
    """Clean forwards of the same document that the census needs if only FLOPs counted (`flops.py`)."""
    need = Flops.of(model, tokens)
    return need.census / need.forward


def clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(model: ma.Model, tokens: int, rounds: int, cells: int, seed: int = 0) -> Result:
    """Time all contestants on one document."""
    ids = document(model, tokens)
    effects = ma.ablate(model, [ids], ma.Zero())  # also the warm-up
    rng = np.random.default_rng(seed)
    engines = {}
    for name in PEERS:
        try:
            engines[name] = make_engine(name, model)
        except ModelError:  # TransformerLens has no hook on the experts of some architectures
            if name != "transformer_lens":
                raise
    off = 0.0
    one = torch.from_numpy(ids)[None]
    many = one.repeat(BATCH, 1)

    def forward(batch: torch.Tensor) -> None:
        with torch.no_grad():
            model.hf(input_ids=batch, use_cache=False)

    times: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        rows = effects.iloc[rng.choice(len(effects), size=cells, replace=False)]
        sample = list(
            zip(rows["position"].tolist(), rows["layer"].tolist(), rows["expert"].tolist())
        )
        taken = {"census": clock(lambda: ma.ablate(model, [ids], ma.Zero()))}
        for name, engine in engines.items():
            engine.effect(ids, *sample[0])  # the clean forward is not part of an ablation's price
            start = time.perf_counter()
            found = [engine.effect(ids, *cell).delta_nll for cell in sample]
            taken[name] = (time.perf_counter() - start) / cells
            off = max(off, float(np.abs(rows["delta_nll"].to_numpy() - np.array(found)).max()))
        taken["clean"] = clock(lambda: [forward(one) for _ in range(5)]) / 5
        taken["batched"] = clock(lambda: forward(many)) / BATCH
        if not off <= rounding(model).verified:
            raise RuntimeError(f"{model.name}: {off:.1e} nats apart, so not the same is timed.")
        if turn:  # the first round warms up
            for name, value in taken.items():
                times.setdefault(name, []).append(value)
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = [n * len(effects) / c for n, c in zip(times["nnsight"], times["census"])]
    return Result(
        model.name,
        tokens,
        len(effects),
        median["census"],
        median["hooks"],
        median["nnsight"],
        median.get("transformer_lens"),
        off,
        median["clean"],
        median["batched"],
        ideal_clean_forwards(model, tokens),
        (min(ratios), max(ratios)),
    )


HEADER = (
    "model", "tokens", "ablations", "census, per s", "hook, per s", "nnsight, per s", "TransformerLens, per s",
    "x hook", "x nnsight (rounds)", "x TransformerLens", "off, nats", "clean forwards", "batched", "ideal",
)  # fmt: skip


def cells_of(result: Result) -> tuple[str, ...]:
    return (
        result.model,
        str(result.tokens),
        f"{result.ablations:,}",
        f"{result.rate:,.0f}",
        f"{1 / result.hook:,.0f}",
        f"{1 / result.nnsight:,.0f}",
        "cannot" if result.bridge is None else f"{1 / result.bridge:,.0f}",
        f"{result.times_hook:,.0f}",
        f"{result.times_nnsight:,.0f} ({result.spread[0]:,.0f} to {result.spread[1]:,.0f})",
        "-" if result.times_bridge is None else f"{result.times_bridge:,.0f}",
        f"{result.off:.0e}",
        f"{result.census / result.clean:.1f}",
        f"{result.census / result.batched:.1f}",
        f"{result.ideal:.1f}",
    )


def machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
        f"Python {platform.python_version()}, {versions}, moeaudit {ma.__version__}"
    )


def markdown(results: list[Result], rounds: int, cells: int) -> str:
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(cells_of(result)) + " |" for result in results]
    verdict = ""
    for tokens, wanted in WANTED.items():
        lowest = min((r.times_nnsight for r in results if r.tokens == tokens), default=None)
        if lowest is not None:
            aim = f"At {tokens} tokens {wanted:,} times nnsight is aimed at"
            verdict += f"{aim}; the slowest model here reaches {lowest:,.0f}.\n"
    verdict += "\n" if verdict else ""
    lengths = " ".join(map(str, dict.fromkeys(result.tokens for result in results)))
    return (
        "# Benchmarks\n\n"
        f"Written by `python benchmarks/speed.py --rounds {rounds} --cells {cells} --tokens {lengths}`. "
        "One census removes every active expert of every token at every "
        "layer of one document, exactly; a raw hook, nnsight and a TransformerBridge take one full forward per "
        f"removal and were timed on {cells} random cells per round, where all found the census's effects (*off*).\n\n"
        + verdict
        + "\n".join(lines)
        + "\n\n"
        f"- Medians of {rounds} rounds in which all contestants take turns; in brackets the smallest "
        "and largest ratio of any round.\n"
        "- *clean forwards*: time of the census in clean forwards of the same document, alone; "
        f"*batched*: in clean forwards of a batch of {BATCH}, per document, the fair measure of "
        "arithmetic; *ideal*: what the count of multiplications says (`ideal_clean_forwards` in "
        "`benchmarks/speed.py`).\n"
        f"- {machine()}. Rates depend on the machine and on what else it runs; ratios are the "
        "result.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    options = parser.parse_args()
    console = Console(width=170)
    results = []
    for name in options.models:
        model = load(name)
        for tokens in options.tokens:
            with console.status(f"{model.name}, {tokens} tokens"):
                results.append(measure(model, tokens, options.rounds, options.cells))
    table = Table(*HEADER, title="Exact removals of one expert for one token at one layer")
    for result in results:
        table.add_row(*cells_of(result))
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(results, options.rounds, options.cells), encoding="utf-8")
    console.print(f"written to {options.out}; {machine()}")


if __name__ == "__main__":
    main()
