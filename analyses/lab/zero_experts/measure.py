"""What is measured of one model and its students: loss, zero share, FLOPs, and whom the census calls harmless."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd

import moeaudit as ma
from moeaudit.lab import zero
from moeaudit.lab.zero.sample import beginnings
from moeaudit.stats.clustered import Clustered
from moeaudit.stats.ranking.correlation import standard_ranks
from moeaudit.text.for_model import tokens_for

KINDS = {
    "original": "the model as it was trained",
    "zero": "zero experts, distilled",
    "half": "half the top-k for every token, distilled the same way",
    "zero, untrained": "zero experts added, nothing trained",
    "half, untrained": "half the top-k, nothing trained",
}
# Of a token and layer in the original model, by the census of its own removals; or of the token.
ABOUT = {
    "kl": "KL of removing one of its experts, a mean over them",
    "harm": "harm of removing one (signed change of the loss)",
    "disturbance": "size of that change",
    "mass": "gate weight of its experts together",
    "entropy": "entropy of the original's prediction",
    "nll": "loss of the original's prediction",
}


def students(
    model: ma.Model, count: int, how: zero.Distillation
) -> tuple[dict[str, ma.Model], pd.DataFrame]:
    """The original, its students, and the logs of their distillation."""
    prompts = beginnings(
        tokens_for(model, ma.corpus("bundled", split="calibration"), how.length), how.prompt
    )
    made: dict[str, Any] = {
        "zero": zero.add_zero_experts(
            copy.deepcopy(model.hf), count, weight=how.weight, seed=how.seed
        ),
        "half": zero.half_top_k(copy.deepcopy(model.hf)),
    }
    found = {"original": model}
    for name, hf in made.items():
        found[f"{name}, untrained"] = _loaded(copy.deepcopy(hf), model)
    logs = []
    for name, hf in made.items():
        logs.append(zero.self_distill(hf, model.hf, prompts, how).assign(kind=name))
        found[name] = _loaded(hf, model)
    return {kind: found[kind] for kind in KINDS}, pd.concat(logs, ignore_index=True)


def _loaded(hf: Any, model: ma.Model) -> ma.Model:
    return ma.load(hf, tokenizer=model.tokenizer)


def losses(traces: dict[str, ma.Trace]) -> pd.DataFrame:
    """Loss of each kind on the same documents, and the difference from the original; limits by document, nats."""
    clean: Any = traces["original"].tokens
    rows = []
    for kind, trace in traces.items():
        tokens: Any = trace.tokens[["document", "position", "nll"]]
        both = tokens.assign(cost=tokens["nll"].to_numpy() - clean["nll"].to_numpy())
        rows.append(Clustered(["kind"], ["nll", "cost"])(both.assign(kind=kind)))
    return pd.concat(rows, ignore_index=True)


def link(
    model: ma.Model, trace: ma.Trace, student: ma.Model, seen: ma.Trace, docs: Any
) -> pd.DataFrame:
    """Within-document rank correlation of a token's skipped share in the student with what the census of the original
    says of its removals; limits by document.

    Columns about (`ABOUT`), layer (-1: shares and effects summed over layers), rho, low, high, documents. Negative: the
    tokens that skip are those whose removals matter less. A document in which one side does not vary is left out.
    """
    effects: Any = ma.ablate(model, docs, ma.Zero(), progress=False)
    keys = ["document", "position", "layer"]
    plain = pd.DataFrame(effects[[*keys, "kl", "delta_nll", "weight"]])
    plain["disturbance"] = plain["delta_nll"].abs()
    names = {"delta_nll": "harm"}
    means = plain.groupby(keys)[["kl", "delta_nll", "disturbance"]].mean().rename(columns=names)
    means["mass"] = plain.groupby(keys)["weight"].sum()
    picks = zero.zero_picks(student, seen)
    whole: Any = picks.merge(means.reset_index(), on=keys, validate="one_to_one")
    told = trace.tokens[["document", "position", "entropy", "nll"]]
    whole = whole.merge(told, on=["document", "position"], validate="many_to_one")
    summed = whole.groupby(["document", "position"]).agg(
        skipped=("skipped", "sum"), kl=("kl", "sum"), harm=("harm", "sum"), mass=("mass", "sum"),
        disturbance=("disturbance", "sum"), entropy=("entropy", "first"), nll=("nll", "first"),
    ).reset_index().assign(layer=-1)  # fmt: skip
    rows = []
    for (layer, document), part in pd.concat([summed, whole]).groupby(["layer", "document"]):
        for name in ABOUT:
            rho = spearman(part["skipped"].to_numpy(float), part[name].to_numpy(float))
            rows.append({"layer": layer, "document": document, "about": name, "rho": rho})
    each: Any = pd.DataFrame(rows).dropna(subset=["rho"])
    return Clustered(["about", "layer"], ["rho"])(each).rename(
        columns={"rho_low": "low", "rho_high": "high"}
    )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN where one of the two does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float((standard_ranks(a[None]) @ standard_ranks(b[None]).T)[0, 0])


def one(model: ma.Model, docs: Any, count: int, how: zero.Distillation) -> dict[str, Any]:
    """Everything of one original: a row of numbers, and the tables losses, shares, links, log."""
    kinds, log = students(model, count, how)
    traces = {kind: ma.capture(each, docs, progress=False) for kind, each in kinds.items()}
    lost = losses(traces)
    student = kinds["zero"]
    shares = zero.zero_share(student, traces["zero"])
    picks: Any = zero.zero_picks(student, traces["zero"])
    by_layer = picks.groupby("layer")["skipped"].mean().to_numpy()
    saved = zero.flops_saved(student, by_layer)
    links = link(model, traces["original"], student, traces["zero"], docs)
    row = {f"nll, {r.kind}": float(r.nll) for r in lost.itertuples()}
    row |= {f"cost, {r.kind}": float(r.cost) for r in lost.itertuples() if r.kind != "original"}
    row |= {
        "zero_share": float(picks["skipped"].mean()),
        "experts_saved": saved["experts"],
        "model_saved": saved["model"],
        "skips_all": float((picks["skipped"] == 1).mean()),
        "zero_less_half": row["cost, zero"] - row["cost, half"],
    }
    row |= {f"rho, {r.about}": float(r.rho) for r in links[links["layer"] == -1].itertuples()}
    return {"row": row, "losses": lost, "shares": shares, "links": links, "log": log}
