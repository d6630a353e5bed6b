# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. My own operator, metric and outcome
#
# The suite asks: *what is done* to the router's answer (operator), *what is read* on the prediction (outcome), and
# *what is held against it* (metric). Each can be yours, as a function or a table, and is checked and tested as the
# built-in ones are.

# %%
from dataclasses import replace

import moeaudit as ma


def beginnings(corpus, characters=300):
    """The first characters of each document: this notebook is to be quick."""
    return ma.Corpus([replace(document, text=document.text[:characters]) for document in corpus])


model = ma.load("tiny-olmoe")
docs = beginnings(ma.corpus("bundled", split="test").sample(2, seed=0, per_domain=True))
LAYERS = [2, 5]

# %% [markdown]
# ## An operator: what does half the expert do?
#
# The function gets the router's answer (`index` and `weight`, "positions top_k", largest first) and returns what is
# to stand instead: here one row for each active expert, in which that expert has half its weight.

# %%
import torch


def halved(routing):
    """Halve the weight of each active expert in turn."""
    positions, k = routing.index.shape
    index = routing.index[:, None].expand(positions, k, k)
    weight = routing.weight[:, None].repeat(1, k, 1)
    own = torch.arange(k)
    weight[:, own, own] /= 2
    return index, weight


half = ma.Custom(halved, name="half the weight", rows="active")
half

# %% [markdown]
# ## An outcome: does the model get surer of a wrong answer?
#
# An outcome gets the clean logits ("positions vocab"), the edited ones ("positions rows vocab") and the true next
# token, and returns one number a row ("positions rows").


# %%
def doubt_of_wrong(clean, edited, target):
    """Change of the probability of the likeliest wrong token."""
    p = torch.softmax(clean.float(), -1)
    wrong = p.scatter(-1, target[:, None], 0).argmax(-1)
    after = torch.softmax(edited.float(), -1)
    at = wrong[:, None, None].expand(*edited.shape[:2], 1)
    return after.gather(-1, at).squeeze(-1) - p.gather(-1, wrong[:, None])


options = {"layers": LAYERS, "outcomes": [doubt_of_wrong, "delta_entropy"]}
few = docs[:6]
effects = ma.ablate(model, few, half, **options)
whole = ma.ablate(model, few, ma.Zero(), **options)
effects

# %% [markdown]
# Your operator is recomputed in another engine as any other, and so it can be wrong only in what it means, not in how
# it was carried out:

# %%
checked = ma.verify(effects, model, n=4)
assert checked.agrees
checked

# %% [markdown]
# The built-in `Scale(0.5)` does the same, so the numbers must be the same; and half a removal harms less than a whole
# one:

# %%
built_in = ma.ablate(model, few, ma.Scale(0.5), **options)
apart = (effects["delta_nll"] - built_in["delta_nll"]).abs().max()
print(f"largest difference to Scale(0.5): {apart:.1e} nats")
print(
    f"mean harm: half {effects['delta_nll'].mean():+.4f}, whole {whole['delta_nll'].mean():+.4f} nats"
)
print(
    f"likeliest wrong token: half {effects['doubt_of_wrong'].mean():+.5f}, whole {whole['doubt_of_wrong'].mean():+.5f}"
)
assert apart < 1e-4
assert 0 < effects["kl"].mean() < whole["kl"].mean()

# %% [markdown]
# ## A metric: one number an expert
#
# A table with layer, expert, metric and value. Here: how surely the router chooses the expert, as the mean of its
# weight's share of the token's sum. It comes from other documents than the effects, and stands beside two built-in
# ones.

# %%
other = beginnings(ma.corpus("bundled", split="calibration").sample(2, seed=0, per_domain=True))
trace = ma.capture(model, other)
routing = trace.routing
share = routing["weight"] / routing.groupby(["document", "position", "layer"])["weight"].transform(
    "sum"
)
own = share.groupby([routing["layer"], routing["expert"]]).mean().rename("value").reset_index()
own.insert(2, "metric", "share of the sum")
built = ma.expert_metrics(trace, ["utilisation", "mean_weight"])

import pandas as pd

metrics = pd.concat([own, built[built["layer"].isin(own["layer"])]], ignore_index=True)
metrics.groupby("metric")["value"].describe().round(3)

# %%
removed = ma.ablate(model, docs, layers=LAYERS, share=0.25, seed=0)
table = ma.contrast(removed, metrics, layers=LAYERS)
table

# %%
ma.plot.contrasts(table)

# %% [markdown]
# ## What may be claimed
#
# Your metric is one of a family: corrections count all of it, and the controls stand beside. Name the family before
# you look (`ma.stats.freeze`), since a metric chosen after its result is no test.

# %%
mine = table[table["metric"] == "share of the sum"].set_index("layer")
for layer, row in mine.iterrows():
    print(
        f"layer {layer}: d_z {row['d_z']:+.3f} ({row['d_z_low']:+.3f} to {row['d_z_high']:+.3f}): {row['verdict']}"
    )
luck = table[table["metric"].isin(["random", "random_score"])]
assert not luck["verdict"].isin(["predictive", "reversed"]).any()
