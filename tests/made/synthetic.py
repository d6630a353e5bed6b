"""A made-up census with the shape of a real one, for tests that need tables and not a model.

Effects are heavy-tailed, grow with depth and with the gate weight, and an expert's own importance
is related to its activation norm, so that some metrics predict and others do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

DOMAINS = ("code", "law", "recipes", "scripture")
WORDS = ["the", "model", "reads", "a", "line", "of", "text", "then", "<b>", "&", "guesses", "it"]


def tables(
    seed: int = 0,
    documents: int = 12,
    tokens: int = 40,
    layers: int = 6,
    experts: int = 16,
    k: int = 4,
) -> dict[str, pd.DataFrame]:
    """Frames named tokens, routing, effects, experts and documents, with the package's columns."""
    rng = np.random.default_rng(seed)
    token_rows, routing_rows, effect_rows = [], [], []
    importance = rng.gamma(1.5, 0.6, (layers, experts))
    popularity = rng.normal(0, 0.8, (layers, experts))
    domain_taste = rng.normal(0, 0.8, (len(DOMAINS), layers, experts))
    popularity[2, 5] = -50.0  # never chosen: its cell of every map is empty
    for document in range(documents):
        taste = document % len(DOMAINS)
        lift = rng.normal(0, 0.3)  # documents differ, so tokens of one are not independent
        words = rng.integers(0, len(WORDS), tokens)
        nll = rng.gamma(1.2, 2.0, tokens)
        for position in range(tokens):
            token_rows.append(
                (document, DOMAINS[taste], position, words[position], " " + WORDS[words[position]],
                 int(rng.integers(0, 500)), nll[position], rng.gamma(2, 1), rng.beta(2, 2),
                 bool(nll[position] < 0.7))
            )  # fmt: skip
            for layer in range(layers):
                logit = popularity[layer] + domain_taste[taste, layer] + rng.normal(0, 1, experts)
                chosen = np.argsort(-logit)[:k]
                weight = np.exp(logit[chosen]) / np.exp(logit).sum()
                change = rng.beta(1, 20)
                for rank, expert in enumerate(chosen):
                    norm = importance[layer, expert] * rng.lognormal(0, 0.3)
                    size = 0.02 * (1 + layer) * weight[rank] * norm
                    delta = size * (0.25 + lift + rng.standard_t(2.5))
                    kl = 0.4 * size * rng.gamma(0.5, 1.0)
                    place = (document, position, layer, rank, int(expert))
                    routing_rows.append(
                        (*place, logit[expert], weight[rank], norm, norm * weight[rank], change)
                    )
                    effect_rows.append((*place, weight[rank], delta, kl, bool(kl > 0.08)))
    place = ["document", "position", "layer", "rank", "expert"]
    narrow = {"document": "int32", "position": "int32", "layer": "int16", "rank": "int8"}
    routing = pd.DataFrame(
        routing_rows,
        columns=[*place, "logit", "weight", "output_norm", "contribution_norm", "change"],
    ).astype({**narrow, "expert": "int16"})
    effects = pd.DataFrame(
        effect_rows, columns=[*place, "weight", "delta_nll", "kl", "flip"]
    ).astype({**narrow, "expert": "int16", "delta_nll": "float32", "kl": "float32"})
    columns = [
        "document",
        "domain",
        "position",
        "token",
        "text",
        "target",
        "nll",
        "entropy",
        "confidence",
        "correct",
    ]
    return {
        "tokens": pd.DataFrame(token_rows, columns=columns).astype({"domain": "category"}),
        "routing": routing,
        "effects": effects,
        "experts": _expert_metrics(routing, importance, rng),
        "documents": _documents(documents, tokens),
    }  # fmt: skip


def _expert_metrics(routing: pd.DataFrame, importance: np.ndarray, rng: np.random.Generator):
    layers, experts = importance.shape
    total = routing.groupby("layer").size() / (routing["rank"].max() + 1)
    by = routing.groupby(["layer", "expert"])
    values = {
        "utilisation": by.size() / by.size().index.get_level_values(0).map(total),
        "mean_weight": by["weight"].mean(),
        "activation_norm_mean": by["output_norm"].mean(),
        "activation_norm_sd": by["output_norm"].std().fillna(0.0),
        "reap": by["contribution_norm"].mean(),
    }
    frame = pd.concat(
        [v.rename("value").reset_index().assign(metric=name) for name, v in values.items()]
    )
    return frame[["layer", "expert", "metric", "value"]].reset_index(drop=True)


def _documents(documents: int, tokens: int) -> pd.DataFrame:
    rows = [
        (role, i, f"{i:064x}", DOMAINS[i % len(DOMAINS)], "en", tokens)
        for role in ("metrics", "effects")
        for i in range(documents)
    ]
    return pd.DataFrame(rows, columns=["role", "document", "id", "domain", "language", "tokens"])


def write_run(folder: Path, model: str = "tiny-made-up", **shape: int) -> Path:
    """A finished run folder around `tables`, written with the package's own functions."""
    import dataclasses

    from moeaudit.runs import AuditSpec, LogProgress, stages
    from moeaudit.runs.elsewhere.domains import domain_tables
    from moeaudit.runs.working.folder import FORMAT, RECORD
    from moeaudit.runs.working.provenance import now, session
    from moeaudit.store.files import write_json, write_table
    from moeaudit.store.shards import Shards

    made = tables(**shape)
    effects, experts = made["effects"], made["experts"]
    layers = sorted(int(x) for x in effects["layer"].unique())
    spec = AuditSpec(
        model, "a" * 64, "documents", "b" * 64, "c" * 64, 12, 12, tuple(layers), 64, 0
    )  # fmt: skip
    for name in ("documents", "tokens", "experts"):
        write_table(folder / f"{name}.parquet", made[name])
    for name in ("routing", "effects"):
        Shards(folder / name).write(0, made[name])
    tests = stages.test_table(effects, experts, spec, LogProgress())
    write_table(folder / "tests.parquet", tests)
    mass = stages.mass_table(effects, experts, spec, LogProgress())
    write_table(folder / stages.MASS, mass)
    domain_tables(folder, effects, experts, spec, LogProgress())
    check = {
        "max_abs_delta_nll": 3.1e-7,
        "max_abs_kl": 1.2e-7,
        "flips_differ": 0,
        "tolerance": 1e-5,
        "agrees": True,
        "skipped": None,
    }
    count = int(effects["expert"].max()) + 1
    record = {
        "format": FORMAT,
        "spec": spec.to_dict(),
        "spec_hash": spec.hash,
        "status": "finished",
        "finished": now(),
        "sessions": [session()],
        "stages": {"census": {"seconds": 12.5, "done": now()}},
        "notes": ["3 documents left out: fewer than 2 tokens."],
        "model": {
            "source": "object",
            "architecture": "MadeUpForCausalLM",
            "num_experts": {str(layer): count for layer in layers},
            "top_k": {str(layer): 4 for layer in layers},
        },
        "protocol": dataclasses.asdict(spec.recipe),
        "engine": "made up",
        "drift": 2.4e-7,
        "verification": [
            {"engine": "hooks", "n": 8, **check},
            {"engine": "nnsight", "n": 0, **check, "skipped": "it is a made-up run"},
        ],
        "summary": stages.summary(Shards(folder / "effects"), made["tokens"]),
    }
    write_json(folder / RECORD, record)
    return folder
