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
# # 3. Routing statistics against causes
#
# Which expert matters is usually read off the router: how often an expert is chosen, how large its weight is, how
# large its output. These are associations. This notebook holds each of them against the cause: what removing the
# expert does.
#
# Two questions, which are not the same:
#
# * **within a token**: of a token's active experts, does the one that the metric ranks highest harm more when removed
#   than the one it ranks lowest?
# * **across experts**: do experts with a higher metric have a higher expected harm?

# %%
from dataclasses import replace

import moeaudit as ma


def beginnings(corpus, characters=300):
    """The first characters of each document: this notebook is to be quick."""
    return ma.Corpus([replace(document, text=document.text[:characters]) for document in corpus])


model = ma.load("tiny-olmoe")
LAYERS = [1, 4, 7]
docs = beginnings(ma.corpus("bundled", split="test").sample(3, seed=0, per_domain=True))
other = beginnings(ma.corpus("bundled", split="calibration").sample(3, seed=0, per_domain=True))
docs

# %% [markdown]
# ## The association
#
# Metrics come from `other`, effects from `docs`. The router says a lot, and its metrics mostly agree with each other:

# %%
trace = ma.capture(model, other)
metrics = ma.expert_metrics(trace)
wide = metrics.pivot_table(index=["layer", "expert"], columns="metric", values="value")
wide.corr(method="spearman").round(2)

# %% [markdown]
# ## The cause
#
# Every active expert of a stratified fifth of the tokens is removed, one at a time, exactly; `pi` is each row's
# inclusion probability, and every statistic below uses it.

# %%
effects = ma.ablate(model, docs, layers=LAYERS, share=0.2, seed=0)
effects

# %%
checked = ma.verify(effects, model, n=4)
assert checked.agrees
checked

# %% [markdown]
# ## Within a token
#
# The controls are tested by the same code on the same tokens: a random pair and a random score may show nothing; the
# token's own gate weight (which no routing *statistic* knows) and the mean harm of the expert in other documents
# show what can be found at all.

# %%
table = ma.contrast(effects, metrics, layers=LAYERS)
table

# %%
ma.plot.contrasts(table)

# %%
by = table.groupby(["role", "verdict"]).size().rename("cells").reset_index()
print(by.to_string(index=False))
luck = table[table["metric"].isin(["random", "random_score"])]
gate = table[table["metric"] == "gate_weight"]
print(f"gate weight: d_z from {gate['d_z'].min():.2f} to {gate['d_z'].max():.2f}")
assert not luck["verdict"].isin(["predictive", "reversed"]).any()
assert (gate["d_z"] > 0).all()

# %% [markdown]
# ## Across experts
#
# Harm by expert is itself a noisy mean over few removals. `ceiling` is the largest rank correlation that even a
# perfect metric could show with this noise: a small rho under a small ceiling says little against the metric.

# %%
ranks = ma.expert_harm(effects, metrics, layers=LAYERS)
ranks

# %%
mine = ranks[ranks["role"] == "metric"]
summary = mine.groupby("layer")[["rho", "ceiling"]].agg(["median", "max"]).astype(float).round(2)
assert (mine["ceiling"].dropna() <= 1).all()
summary

# %%
ma.plot.harm_against_metric(effects, metrics, "utilisation")

# %% [markdown]
# ## What may be claimed
#
# The next cell says it from the tables. An inconclusive cell is neither "it works" nor "it does not"; the column
# `n_documents_to_decide` says how many documents would settle it.

# %%
cells = table[table["role"] == "metric"]
found = cells["verdict"].isin(["predictive", "reversed"])
unsure = cells["verdict"].isin(["inconclusive", "too few documents to say"])
need = cells.loc[unsure, "n_documents_to_decide"].astype(float).median()
print(
    f"{len(cells)} cells: {found.sum()} show an effect above the smallest one of interest, {unsure.sum()} are undecided."
)
print(f"The median undecided cell would need about {need:,.0f} documents; here were {len(docs)}.")
assert found.sum() + unsure.sum() <= len(cells)
