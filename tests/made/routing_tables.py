"""A trace small enough to work out by hand, and a random one with all its columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moeaudit.observe import Facts, Trace


def trace_of(tokens: list[tuple], routing: list[tuple], experts: int) -> Trace:
    """tokens: (document, domain, position, token, target);
    routing: (document, position, layer, rank, expert, weight, output_norm, change)."""
    frame = pd.DataFrame(tokens, columns=["document", "domain", "position", "token", "target"])
    frame["domain"] = frame["domain"].astype("category")
    frame = frame.assign(text="x", nll=1.0, entropy=1.0, confidence=0.5, correct=True)
    names = ["document", "position", "layer", "rank", "expert", "weight", "output_norm", "change"]
    rows = pd.DataFrame(routing, columns=names)
    rows = rows.assign(logit=0.0, contribution_norm=rows["weight"] * rows["output_norm"])
    layers = sorted(rows["layer"].unique())
    facts = Facts(
        model="by hand",
        vocab_size=50,
        num_experts={int(layer): experts for layer in layers},
        top_k={int(layer): int(rows["rank"].max()) + 1 for layer in layers},
        n_documents=frame["document"].nunique(),
    )
    return Trace(frame, rows, facts)


def by_hand() -> Trace:
    """Two documents of two tokens, one layer with four experts of which expert 3 is never used."""
    tokens = [(0, "a", 0, 5, 6), (0, "a", 1, 6, 5), (1, "b", 0, 5, 5), (1, "b", 1, 5, 7)]
    routing = [
        (0, 0, 2, 0, 0, 0.5, 2.0, 0.1),
        (0, 0, 2, 1, 1, 0.25, 4.0, 0.1),
        (0, 1, 2, 0, 1, 0.6, 1.0, 0.2),
        (0, 1, 2, 1, 0, 0.3, 3.0, 0.2),
        (1, 0, 2, 0, 2, 0.7, 5.0, -0.1),
        (1, 0, 2, 1, 0, 0.1, 4.0, -0.1),
        (1, 1, 2, 0, 0, 0.4, 1.0, 0.4),
        (1, 1, 2, 1, 1, 0.4, 3.0, 0.4),
    ]
    return trace_of(tokens, routing, experts=4)


def random_trace(seed: int = 0, documents: int = 9, length: int = 11, experts: int = 7) -> Trace:
    """Three layers, top-3, documents that prefer experts by domain, shuffled rows."""
    rng = np.random.default_rng(seed)
    tokens, routing = [], []
    for document in range(documents):
        domain = "xyz"[document % 3]
        for position in range(length):
            tokens.append((document, domain, position, *rng.integers(0, 4, 2).tolist()))
            for layer in (1, 3, 4):
                taste = rng.normal(size=experts) + 2 * (np.arange(experts) % 3 == document % 3)
                weights = np.sort(rng.dirichlet(np.ones(3)))[::-1]
                for rank, expert in enumerate(np.argsort(-taste)[:3].tolist()):
                    numbers = (weights[rank], rng.gamma(3.0), rng.uniform(0, 0.5))
                    routing.append((document, position, layer, rank, expert, *numbers))
    trace = trace_of(tokens, routing, experts)
    shuffled = trace.routing.sample(frac=1, random_state=seed).reset_index(drop=True)
    return Trace(trace.tokens, shuffled, trace.facts)
