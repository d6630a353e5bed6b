"""The card of a model, and the page of all of them, written from measured figures alone.

python -m moeaudit.lab.bundled.card.card moeaudit/models/bundled/tiny-* --page docs/models.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIBLING = {
    "tiny-olmoe": (
        "OLMoE-1B-7B",
        "Every layer is sparse, attention normalises queries and keys, there is no shared expert.",
    ),
    "tiny-qwen2-moe": (
        "Qwen1.5-MoE-A2.7B",
        "Every layer is sparse and has, beside the routed experts, one shared expert as wide as "
        "the active routed ones together, times the sigmoid of its own gate. Query, key and value "
        "projections have biases.",
    ),
    "tiny-deepseek-v2": (
        "DeepSeek-V2-Lite",
        "Attention is latent (MLA: keys and values from a 64-wide latent, no query latent), layer "
        "0 is dense, the other layers have two shared experts (one ungated MLP) beside the routed "
        "ones.",
    ),
}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    lines = [head, rule, *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def language_table(rows: list[dict[str, Any]]) -> str:
    head = ("test domain", "documents", "tokens", "model", "trigram", "own trigram", "unigram")
    return table(
        head,
        [
            (
                r["domain"],
                r["documents"],
                f"{r['tokens']:,}",
                f"**{r['bits_per_byte']:.3f}**",
                f"{r['trigram']:.3f}",
                f"{r['trigram_domain']:.3f}" if "trigram_domain" in r else "",
                f"{r['unigram']:.3f}",
            )
            for r in rows
        ],
    )


def standing(rows: list[dict[str, Any]]) -> str:
    """In words, on which of the domains the model predicts better than each n-gram."""
    said = []
    for key, name in (("trigram", "the trigram"), ("trigram_domain", "its own trigram")):
        lost = [r["domain"] for r in rows if r["bits_per_byte"] >= r[key]]
        text = f"The model is below {name} on {len(rows) - len(lost)} of {len(rows)} domains"
        said.append(f"{text} (not on {', '.join(lost)})." if lost else f"{text}.")
    return " ".join(said)


def routing_table(rows: list[dict[str, Any]]) -> str:
    head = (
        "layer",
        "MI top-1",
        "null 95 %",
        "p",
        "MI top-k",
        "null 95 %",
        "p",
        "least load",
        "greatest load",
        "effective experts",
        "balance",
    )
    return table(
        head,
        [
            (
                r["layer"],
                *(
                    f"{r[kind][field]:.3f}"
                    for kind in ("top1", "topk")
                    for field in ("value", "null_95", "p")
                ),
                f"{r['least_load']:.2f}",
                f"{r['greatest_load']:.2f}",
                f"{r['effective_experts']:.1f} of {r['experts']}",
                f"{r['balance']:.3f}",
            )
            for r in rows
        ],
    )


def _commands(name: str, run: dict[str, Any]) -> tuple[str, str]:
    """The command or commands that made the weights, and a remark if there were two."""

    def command(part: dict[str, Any], out: str, more: str = "") -> str:
        return (
            f"python -m moeaudit.lab.bundled.train {name} --corpus corpus --out training/{out} {more}"
            f"--steps {part['steps']} --decay-steps {part['decay_steps']} "
            f"--rows-per-step {part['rows_per_step']} --seed {part['seed']}"
        )

    before = run.get("earlier")
    if before is None:
        return command(run, name), ""
    remark = (
        f"Trained twice over: after {before['steps_made']:,} steps, with a decay of {before['decay_steps']}, "
        "the rate returned to its constant value and the run went on (the n-grams below read the text "
        "of the second schedule throughout). "
    )
    again = command(run, f"{name}-further", f"--from training/{name} ")
    return f"{command(before, name)}\n{again}", remark


def card(figures: dict[str, Any]) -> str:
    """README.md of a model folder."""
    f, run = figures, figures["run"]
    sibling, shape = SIBLING[f["model"]]
    routing = f["routing"]
    trained = [r for r in f["language"] if r["trained"]]
    shifted = [r for r in f["language"] if not r["trained"]]
    mean = sum(r["bits_per_byte"] for r in trained) / len(trained)
    command, further = _commands(f["model"], run)
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {f["model"]}

A `{f["class"]}` with {f["parameters"]:,} parameters ({f["active_parameters"]:,} active per token),
{sibling} in miniature, trained from scratch to test an instrument.

**What it is not.** A model this small shows that the audit works: that its numbers are exact, its
controls behave, its report can be read. It is no evidence about large models. Nothing found in it
should be quoted as a property of {sibling} or of mixtures of experts in general.

## Shape and routing

{shape} There are {len(routing)} MoE layers of {routing[0]["experts"]} experts,
{run["top_k"]} active. The router takes a softmax over all experts and keeps the {run["top_k"]}
largest probabilities as weights, without renormalising them (so they sum to less than 1) and
without scaling. The context is 512 tokens, the vocabulary a byte-level BPE of 2,048. Every
document begins with `<|endoftext|>`.

Weights are stored in float16 ({f["weights_bytes"] / 1e6:.1f} MB) and load in float32; all figures
below were measured on the stored weights computed in float32.

## Data and licences

Equal parts of eight domains, rebuilt from hash-locked packages by `python -m moeaudit.text.making.build`:
fiction, speeches and scripture (public domain), medical classification texts (US government),
Python code (SymPy, BSD-3-Clause), and English encyclopedia, French encyclopedia and recipes
(Wikipedia and Wikibooks texts, **CC BY-SA**). The corpus has SHA-256
`{run["corpus"][:16]}`. Whole source units are split by hash into train, calibration and test;
the figures below come from test documents only.

## Recipe

{run["steps_made"]:,} steps of {run["rows_per_step"] * run["short"]:,} tokens,
{run["tokens"] / 1e6:.1f} M tokens in all, {run["training_seconds"] / 60:.0f} minutes on one busy
CPU core, seed {run["seed"]}. Rows of {run["short"]} tokens while the learning rate is constant,
{run["long"]} while it decays to zero over the last {run["decay_steps"]} steps. Muon
({run["matrix_rate"]}) for hidden matrices and experts; AdamW for embeddings, head, norms
({run["vector_rate"]}) and routers ({run["router_rate"]}). Load-balancing loss per layer over the
whole step (coefficient {run["balance"]}, in the decay {run["late_balance"]}), router z-loss
({run["z"]}). bfloat16 autocast. {further}torch {run["versions"]["torch"]},
transformers {run["versions"]["transformers"]}.

```
{command}
```

## Held-out bits per byte

Mean over the training domains: **{mean:.3f}**. The trigram (interpolated Kneser-Ney) and the
unigram were fitted on the same text the model has read; the own trigram on the part of it from the
domain it is measured on, so it is told what the model has to find out. {standing(trained)}

{language_table(trained)}

Domains and languages it was never trained on:

{language_table(shifted)}

## Routing on held-out text of the training domains

Mutual information of domain and expert in nats (at most ln 8 = 2.08), beside the 95 % quantile of
its null, in which whole documents trade their domain labels. Load is an expert's share of slots
times the number of experts: 1 is even, 0 is dead. Balance is N sum f P: 1 is even.

{routing_table(routing)}
"""
