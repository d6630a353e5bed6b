"""Six ways to "remove an expert", asked of the same tokens: where do they disagree?

    python analyses/operators_compared.py --out reports/operators_compared

Every operator is applied to every (token, layer, active expert) of the same documents, exactly.
Reported: the mean harm of each by layer, with 95 % intervals from resampling documents; how far
two operators agree on which removal harms (Spearman over removals, and over experts' mean harm);
and how often they disagree about the sign.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import moeaudit as ma
from moeaudit.causal import Operator
from moeaudit.errors import MoeAuditError
from moeaudit.frames import Frame
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.sheet import Sheet
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import fixed, percent
from moeaudit.stats.clustered import Clustered
from moeaudit.text.for_model import first_tokens

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")
KEYS = ["document", "position", "layer", "rank", "expert"]


def operators(model: ma.Model, held_out: list[np.ndarray], seed: int) -> dict[str, Operator]:
    """What is compared; outputs that stand in for an expert's own come from held-out documents."""
    outputs = ma.expert_outputs(model, held_out, seed=seed)
    return {
        "zero": ma.Zero(),
        "renormalize": ma.Renormalize("sum"),
        "reroute": ma.Reroute(),
        "mean output": ma.MeanOutput(outputs),
        "resample": ma.Resample(outputs, seed=seed),
        "zero everywhere": ma.Everywhere(ma.Zero()),
    }


def compared(name: str, documents: int, tokens: int, held_out: int, seed: int) -> Frame:
    """One row for each removal, one column of delta NLL for each operator."""
    model = ma.load(name)
    docs, others = (
        first_tokens(model, ma.corpus("bundled", split=s).sample(n, seed, per_domain=False), tokens)
        for s, n in (("test", documents), ("calibration", held_out))
    )
    whole: Frame | None = None
    for label, operator in operators(model, others, seed).items():
        sys.stderr.write(f"{name}: {label} ...\n")
        effects: Frame = pd.DataFrame(ma.ablate(model, docs, operator))
        mine = effects[[*KEYS, "delta_nll"]].rename(columns={"delta_nll": label})
        whole = mine if whole is None else whole.merge(mine, on=KEYS, validate="one_to_one")
    assert whole is not None
    return whole.assign(model=name)


def by_layer(frame: Frame, labels: list[str], seed: int) -> Frame:
    """Mean harm of each operator in each layer, with limits."""
    return Clustered(["model", "layer"], labels, "percentile", seed=seed).long(frame)


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's rho."""
    result: Any = spearmanr(np.asarray(a), np.asarray(b))
    return float(result.statistic)


def agreement(frame: Frame, labels: list[str]) -> Frame:
    """Each pair of operators: rank correlation over removals and over experts, and signs."""
    rows = []
    for model, part in frame.groupby("model", sort=False):
        experts = part.groupby(["layer", "expert"])[labels].mean()
        for a, b in itertools.combinations(labels, 2):
            opposite = np.sign(part[a]) * np.sign(part[b]) < 0
            rows.append(
                {
                    "model": model,
                    "a": a,
                    "b": b,
                    "spearman_removals": rank_correlation(part[a], part[b]),
                    "spearman_experts": rank_correlation(experts[a], experts[b]),
                    "opposite_sign": float(opposite.mean()),
                    "removals": len(part),
                    "experts": len(experts),
                }
            )
    return pd.DataFrame(rows)


def headline(pairs: Frame) -> str:
    """The answer, from the pair that agrees least and the one that agrees most."""
    single = pairs[(pairs["a"] != "zero everywhere") & (pairs["b"] != "zero everywhere")]
    least = single.loc[single["spearman_removals"].idxmin()]
    most = single.loc[single["spearman_removals"].idxmax()]
    return (
        f'"Remove an expert" is several questions: over removals, {most["a"]} and {most["b"]} agree most '
        f"(Spearman {most['spearman_removals']:.2f}, {most['model']}), {least['a']} and {least['b']} least "
        f"({least['spearman_removals']:.2f}, {least['model']})."
    )


def page(out: Path, means: Frame, pairs: Frame, labels: list[str], command: str) -> Path:
    """Answer, mean harm by layer, and the table of agreement."""
    sheet = Sheet("Operators compared", headline(pairs), command)
    sheet.points(
        [
            "zero: the expert's weight becomes 0. renormalize: the others are scaled up to the old sum. reroute: the "
            "router's next choice enters by the model's own rule.",
            "mean output and resample: the expert says what it says on average, or what it said at a random "
            "other token of held-out documents; its weight stays.",
            "zero everywhere: the same expert is removed at all tokens that use it; what attention carries over is "
            "in it.",
        ]
    )
    sheet.figure(
        profiles(means, key="harm", title="Mean harm by layer", order=labels, caption=(
            "Change of the NLL of the next token, nats, mean over all removals of a layer. Limits: 95 %, documents "
            "resampled."
        ))
    )  # fmt: skip
    sheet.heading("Do they agree on what harms?")
    columns = [
        Column("model", lambda r: r["model"], text=True),
        Column("operators", lambda r: f"{r['a']} and {r['b']}", text=True),
        Column("Spearman, removals", lambda r: fixed(r["spearman_removals"], 2)),
        Column("Spearman, experts", lambda r: fixed(r["spearman_experts"], 2)),
        Column("opposite sign", lambda r: percent(r["opposite_sign"])),
    ]
    words = (
        "Agreement of two operators over the same removals, and over the mean harm of each expert"
    )
    sheet.table(table(rows_of(pairs), columns, words))
    return sheet.write(out / "page.html")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--held-out", type=int, default=200, help="documents for stand-in outputs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given = (options.documents, options.tokens, options.held_out, options.seed)
    try:
        frame = pd.concat([compared(name, *given) for name in options.model], ignore_index=True)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    labels = [name for name in frame if name not in (*KEYS, "model")]
    means, pairs = by_layer(frame, labels, options.seed), agreement(frame, labels)
    options.out.mkdir(parents=True, exist_ok=True)
    means.to_csv(options.out / "by_layer.csv", index=False)
    pairs.to_csv(options.out / "agreement.csv", index=False)
    command = "python analyses/operators_compared.py " + " ".join(sys.argv[1:])
    where = page(options.out, means, pairs, labels, command)
    sys.stdout.write(pairs.round(3).to_string(index=False) + f"\n{where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
