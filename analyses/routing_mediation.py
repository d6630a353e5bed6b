"""How much of a removal's effect goes through routing, and how much reaches later tokens?

    python analyses/routing_mediation.py --out reports/routing_mediation

For every token, layer and active expert: the effect of its removal, split into what happens with
all later routers held to their clean answers (direct) and the rest (through routing), and into
what it does to the token's own prediction and to the predictions of the next tokens (through
attention). Means over a layer's removals, with 95 % intervals from resampling documents.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

import moeaudit as ma
from moeaudit.errors import MoeAuditError
from moeaudit.frames import Frame
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.sheet import Sheet
from moeaudit.stats.clustered import Clustered, ratio_draws
from moeaudit.stats.sizes.bootstrap import document_weights, percentile_limits
from moeaudit.text.for_model import first_tokens

MODELS = ("tiny-olmoe", "tiny-qwen2-moe", "tiny-deepseek-v2")
PARTS = {
    "own token, direct": "direct_nll",
    "own token, through routing": "routing_nll",
    "later tokens, direct": "spill_direct",
    "later tokens, through routing": "spill_routing",
}
SIZES = {"size of the own effect": "delta_nll", "size of what routing adds": "routing_nll"}


def decomposed(name: str, documents: int, tokens: int, horizon: int, seed: int) -> Frame:
    """All removals on one piece of each of `documents` test documents, split into their parts."""
    model = ma.load(name)
    docs = ma.corpus("bundled", split="test").sample(documents, seed=seed, per_domain=False)
    kept = first_tokens(model, docs, tokens, least=horizon + 2)
    frame = pd.DataFrame(ma.decompose(model, kept, horizon=horizon))
    if len(kept) < len(docs):
        sys.stderr.write(f"{name}: {len(docs) - len(kept)} documents too short for the horizon\n")
    return frame.assign(model=name)


def by_layer(frame: Frame, columns: dict[str, str], size: bool, seed: int) -> Frame:
    """Mean of each column over a layer's removals, with limits; `size` takes absolute values."""
    values = frame[list(columns.values())]
    values = (values.abs() if size else values).set_axis(list(columns), axis=1)
    table = pd.concat([frame[["model", "layer", "document"]], values], axis=1)
    means = Clustered(["model", "layer"], list(columns), "percentile", seed=seed).long(table)
    return means.rename(columns={"rows": "removals"})


def shares(frame: Frame, seed: int) -> Frame:
    """Of the spread of own effects in a model, how much the direct part explains, with limits.

    $1 - \\mathrm{Var}(\\Delta_{routing}) / \\mathrm{Var}(\\Delta)$ about zero: one minus the mean square of
    what routing adds over the mean square of the effect. Layers without a MoE layer above are left out.
    """
    rows = []
    for model, part in frame.groupby("model", sort=False):
        part = part[part["layer"] < part["layer"].max()]
        squares = (part[["delta_nll", "routing_nll"]] ** 2).groupby(part["document"]).sum()
        weights = document_weights(len(squares), 2000, seed)
        whole, routing = (squares[c].to_numpy() for c in ("delta_nll", "routing_nll"))
        low, high = percentile_limits(1 - ratio_draws(routing, whole, weights))
        rows.append((model, 1 - routing.sum() / whole.sum(), low, high, len(squares)))
    return pd.DataFrame(rows, columns=["model", "direct_share", "low", "high", "documents"])


def page(out: Path, means: Frame, sizes: Frame, share: Frame, command: str, horizon: int) -> Path:
    """Answer, the two figures, and what they were made with."""
    said = "; ".join(
        f"{r.model} {100 * r.direct_share:.0f} % ({100 * r.low:.0f} to {100 * r.high:.0f})"
        for r in share.itertuples()
    )
    least = share["low"].min()  # said only where the limits say it
    headline = (
        "Most of what a removal does to its own token does not go through later routers"
        if least > 0.5
        else "Later routers may carry a large part of what a removal does to its own token"
    )
    sheet = Sheet("Routing mediation", f"{headline}: the direct part explains {said}.", command)
    sheet.paragraph(
        "Explained: one minus the mean square of the part through routing over the mean square of the whole "
        "effect, over all removals that have a MoE layer above them."
    )
    sheet.figure(
        profiles(means, key="parts", title="Mean effect of a removal by path", caption=(
            "Change of the NLL by removing one active expert at one token and layer, in nats, mean over all removals "
            f"of a layer; later tokens: summed over the next {horizon}. Parts of one row add up to its total effect. "
            "Limits: 95 %, documents resampled."
        ))
    )  # fmt: skip
    sheet.figure(
        profiles(sizes, key="sizes", title="Size of the parts", caption=(
            "Mean absolute value, so that gains and losses do not cancel. Nothing goes through routing above the last "
            "MoE layer."
        ))
    )  # fmt: skip
    return sheet.write(out / "page.html")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--horizon", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        frames = []
        for name in options.model:
            sys.stderr.write(f"{name}: removing every active expert, twice ...\n")
            given = (options.documents, options.tokens, options.horizon, options.seed)
            frames.append(decomposed(name, *given))
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    frame = pd.concat(frames, ignore_index=True)
    means = by_layer(frame, PARTS, False, options.seed)
    sizes = by_layer(frame, SIZES, True, options.seed)
    share = shares(frame, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    pd.concat([means.assign(of="mean"), sizes.assign(of="absolute")]).to_csv(
        options.out / "by_layer.csv", index=False
    )
    share.to_csv(options.out / "shares.csv", index=False)
    command = "python analyses/routing_mediation.py " + " ".join(sys.argv[1:])
    where = page(options.out, means, sizes, share, command, options.horizon)
    sys.stdout.write(share.round(3).to_string(index=False) + f"\n{where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
