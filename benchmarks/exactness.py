"""How exact the census is, architecture by architecture: `python benchmarks/exactness.py`.

Each tiny random model of tests/made/architectures.py is censused, and a sample of cells is recomputed
by one plain forward each with a hook. Writes docs/exactness.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers
from rich.console import Console

import moeaudit as ma
from moeaudit.causal import replay_for

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from made import architectures  # noqa: E402

TOKENS, CELLS = 40, 24

HEAD = """# Exactness by architecture

Written by `python benchmarks/exactness.py` (torch {torch}, transformers {transformers}, float32).
Tiny random models built from transformers' own classes; documents of {tokens} tokens, longer than
every sliding window in them. For {cells} random cells of each census, the same removal was
recomputed by one plain forward with a hook on the experts module. *Difference* is the largest in
delta NLL and KL, in nats; *largest effect* is the largest delta NLL among those cells, to show that
there was something to get wrong.

Where the wavefront's rows cannot follow a model (tokens mixed outside of attention, sparse
attention), the census runs on batched full forwards and `effects.engine` says why.

| architecture | peculiar | engine | difference | largest effect |
|---|---|---|---:|---:|
"""


def measure(architecture: architectures.Architecture) -> tuple[str, float, float]:
    from made.plain import removal

    model = ma.load(architecture.build())
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(16, architectures.VOCABULARY, (TOKENS,), generator=generator)
    effects = ma.ablate(model, [ids])
    worst = largest = 0.0
    for row in effects.sample(CELLS, random_state=0).itertuples():
        plain = removal(
            model.hf, ids[None], model.anatomy[row.layer].experts, row.position, row.expert
        )
        worst = max(worst, abs(plain.delta_nll - row.delta_nll), abs(plain.kl - row.kl))
        largest = max(largest, abs(plain.delta_nll))
    return replay_for(model).engine, worst, largest


def main() -> None:
    transformers.logging.set_verbosity_error()
    console = Console()
    lines = []
    for architecture in architectures.ARCHITECTURES:
        engine, worst, largest = measure(architecture)
        lines.append(
            f"| {architecture.name} | {architecture.peculiar} | {engine} | {worst:.1e} | {largest:.2f} |"
        )
        console.print(f"{architecture.name:18} {engine:14} {worst:.1e} of {largest:.2f} nats")
    head = HEAD.format(
        torch=torch.__version__.split("+")[0],
        transformers=transformers.__version__,
        tokens=TOKENS,
        cells=CELLS,
    )
    (ROOT / "docs" / "exactness.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    console.print("wrote docs/exactness.md")


if __name__ == "__main__":
    main()
