"""What training made of the copies in `smollm2-moe`: losses, and whether another expert does an active one's work.

    python -m analyses.lab.upcycling.smollm2 COPIES TRAINED --out FILE.json [--documents 1] [--tokens 24] [--held-out 4]
        [--run RUN --look DOCUMENT.POSITION.LAYER.EXPERT ...]

COPIES and TRAINED are folders of `python -m moeaudit.lab.upcycling smollm2-moe`, with `--steps 0` and without it. The
copies compute what the dense model does, so theirs is its loss. `--look` shows single removals of RUN, an audit of
TRAINED, in words, and what the other experts do in that one's place.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import moeaudit as ma
from moeaudit.frames import Frame
from moeaudit.lab.upcycling import expert_distances
from moeaudit.stats.clustered import Clustered
from moeaudit.store.files import write_json
from moeaudit.text.for_model import first_tokens

from ..shared import clean, require_agrees
from .measure import swapped_and_removed

_LENGTH = 256  # tokens of a held-out document


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("copies", type=Path)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=1, help="of each domain (default 1)")
    parser.add_argument("--tokens", type=int, default=24, help="of each document (default 24)")
    parser.add_argument("--held-out", type=int, default=4, help="of each domain, for the loss")
    parser.add_argument("--run", type=Path, help="an audit of TRAINED, for --look")
    parser.add_argument("--look", nargs="*", default=[], help="document.position.layer.expert")
    given = parser.parse_args(argv)
    begun, found, losses = time.perf_counter(), {}, {}
    texts = ma.corpus("bundled", split="test")
    for name in ("copies", "trained"):
        model = ma.load(getattr(given, name), dtype="float32")
        losses[name] = held_out(model, texts.sample(given.held_out, seed=0, per_domain=True))
        read = first_tokens(
            model, texts.sample(given.documents, seed=0, per_domain=True), given.tokens
        )
        found[name] = of_model(model, read)
        if name == "copies":  # whose swaps are rounding in float32
            exact: Any = ma.ablate(ma.load(given.copies, dtype="float64"), read, ma.Swap("all"))
            found[name]["swap_most_float64"] = float(exact.delta_nll.abs().max())
    asked = [tuple(map(int, each.split("."))) for each in given.look]
    looked = [looked_at(model, given.run, *each) for each in asked]
    if looked:
        model = ma.load(given.copies, dtype="float32")
        for row, (document, position, *_) in zip(looked, asked):
            row["dense"] = predicted(model, given.run, document, position)
    both = losses["copies"].merge(
        losses["trained"], on=["document", "domain"], suffixes=("_dense", "")
    )
    both["difference"] = both.nll - both.nll_dense
    write_json(
        given.out,
        clean(
            {
                "command": "python -m analyses.lab.upcycling.smollm2 COPIES TRAINED --out FILE.json",
                "seconds": round(time.perf_counter() - begun),
                "torch": torch.__version__,
                "read": f"{given.documents} test documents a domain, {given.tokens} tokens of each",
                "held_out": f"{given.held_out} test documents a domain, at most {_LENGTH} tokens of each",
                "loss": over_documents(
                    both.assign(domain="all"), ["domain"], ["nll_dense", "nll", "difference"]
                )
                + over_documents(both, ["domain"], ["nll_dense", "nll", "difference"]),
                "models": found,
                "looked_at": looked,
            }
        ),
    )
    return 0


def held_out(model: ma.Model, texts: Any) -> Frame:
    """Loss of each document, nats a token: `document, domain, nll`."""
    rows = []
    for number, text in enumerate(texts):
        assert model.tokenizer is not None
        ids = torch.tensor(model.tokenizer(text.text)["input_ids"][:_LENGTH])[None]
        with torch.no_grad():
            logits = model.hf(input_ids=ids, use_cache=False).logits[0, :-1].double()
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
        rows.append({"document": number, "domain": text.domain, "nll": float(nll)})
    return pd.DataFrame(rows)


def of_model(model: ma.Model, read: Any) -> dict[str, Any]:
    """Distances of experts, and what removing one and putting another in its place do, by layer."""
    removed, swapped, inactive = swapped_and_removed(model, read)
    distances = expert_distances(model.hf)
    layers = []
    for layer, rows in removed.groupby("layer"):
        put = swapped[(swapped.layer == layer) & inactive]
        apart = distances[distances.layer == layer].distance
        layers.append(
            {
                "layer": int(layer),
                "distance": [float(x) for x in (apart.min(), apart.mean(), apart.max())],
            }
            | {
                "removed": mean_of(rows, "kl"),
                "put": mean_of(put, "kl"),
                "harm": mean_of(rows, "delta_nll"),
            }
            | {
                "stand_in": stand_in(rows, put),
                "flips": float(rows.flip.mean()),
                "flips_put": float(put.flip.mean()),
            }
        )
    return {
        "removals": len(removed),
        "swaps": len(swapped),
        "swap_most": {
            "delta_nll": float(swapped.delta_nll.abs().max()),
            "kl": float(swapped.kl.max()),
        },
        "stand_in": stand_in(removed, swapped[inactive]),
        "verified": require_agrees(ma.verify(swapped, model, n=8))
        if float(swapped.kl.max()) > 1e-4
        else "swaps are 0",
        "layers": layers,
    }


def read_until(run: Path, document: int, position: int) -> tuple[Frame, Any]:
    """The tokens of a run's document up to a position, and the text of token ids."""
    tokens = pd.read_parquet(run / "tokens.parquet")
    text: Any = tokens[(tokens.document == document) & (tokens.position <= position)]
    words = pd.read_parquet(run / "vocabulary.parquet").set_index("token").text
    return text.sort_values("position"), words


def predicted(model: ma.Model, run: Path, document: int, position: int) -> dict[str, Any]:
    """What a model predicts there: the likeliest token, and the probability of the one that follows."""
    text, words = read_until(run, document, position)
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([text.token.tolist()]), use_cache=False).logits
    p = logits[0, -1].double().softmax(-1)
    return {"top": words[int(p.argmax())], "probability": float(p[text.target.iloc[-1]])}


def looked_at(
    model: ma.Model, run: Path, document: int, position: int, layer: int, expert: int
) -> dict[str, Any]:
    """One removal of a run in words, and the model's other experts in that one's place at its gate."""
    text, words = read_until(run, document, position)
    at = text.iloc[-1]
    ids = torch.tensor([*text.token, at.target])
    operators = {"removed": ma.Zero(), "put": ma.Swap("all")}
    row: dict[str, Any] = {}
    for name, operator in operators.items():
        frame: Any = ma.ablate(model, [ids], operator, layers=[layer], predictions=True)
        row[name] = frame[(frame.position == position) & (frame.expert == expert)]
    told = lambda frame: [  # noqa: E731
        {
            "top": words[r.top],
            "delta_nll": r.delta_nll,
            "kl": r.kl,
            "entered": getattr(r, "entered", None),
        }
        for r in frame.itertuples()
    ]
    return {
        "document": document,
        "position": position,
        "domain": at.domain,
        "layer": layer,
        "expert": expert,
        "gate": float(row["removed"].weight.iloc[0]),
        "context": "".join(text.text.tail(16)),
        "next": words[at.target],
        "probability": float(np.exp(-at.nll)),
        "top": words[at.top],
        "removed": told(row["removed"]),
        "put": [each for each in told(row["put"]) if each["entered"] != expert],
    }


def mean_of(frame: Frame, value: str) -> dict[str, Any]:
    return over_documents(frame.assign(layer=0), ["layer"], [value])[0]


def over_documents(frame: Frame, by: list[str], values: list[str]) -> list[dict[str, Any]]:
    """Means with 95 % limits, documents as the sampling unit (Student's t)."""
    means = Clustered(tuple(by), tuple(values), limits="student", level=0.95)
    return pd.DataFrame(means.means([means.sums(frame)])).to_dict("records")


def stand_in(removed: Frame, put: Frame) -> dict[str, Any]:
    """1 - KL of another expert in its place / KL of its removal, with limits from leaving one document out in turn."""
    sums = pd.DataFrame(
        {"gone": removed.groupby("document").kl.agg(["sum", "size"]).apply(tuple, axis=1)}
    )
    sums["put"] = put.groupby("document").kl.agg(["sum", "size"]).apply(tuple, axis=1)
    gone, other = (np.array(sums[name].tolist()) for name in ("gone", "put"))
    share = lambda a, b: 1 - (b[0] / b[1]) / (a[0] / a[1])  # noqa: E731
    whole, n = share(gone.sum(0), other.sum(0)), len(sums)
    left = np.array([share(gone.sum(0) - gone[i], other.sum(0) - other[i]) for i in range(n)])
    error = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    from scipy.stats import t

    width = float(t.ppf(0.975, n - 1)) * error
    return {
        "share": float(whole),
        "low": float(whole - width),
        "high": float(whole + width),
        "documents": n,
    }


if __name__ == "__main__":
    sys.exit(main())
