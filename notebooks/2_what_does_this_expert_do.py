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
# # 2. What does this expert do?
#
# An expert is usually described by the tokens that choose it. That says when it is used, not what it does: its output
# may change nothing there. Here one expert is looked at from both sides: where it is used, and what the next
# prediction is with and without it, at every token that used it.

# %%
from dataclasses import replace

import moeaudit as ma


def beginnings(corpus, characters=300):
    """The first characters of each document: this notebook is to be quick."""
    return ma.Corpus([replace(document, text=document.text[:characters]) for document in corpus])


model = ma.load("tiny-olmoe")
LAYER = 7
docs = beginnings(ma.corpus("bundled", split="test").sample(2, seed=0, per_domain=True))
docs

# %% [markdown]
# ## Every removal in one layer
#
# `predictions=True` keeps the model's likeliest next token after each removal; `following=True` asks the router who
# is next in line if an expert may not be chosen. The metrics come from other documents.

# %%
effects = ma.ablate(model, docs, layers=[LAYER], predictions=True)
seen = ma.capture(model, docs, following=True)
other = beginnings(ma.corpus("bundled", split="calibration").sample(2, seed=0, per_domain=True))
metrics = ma.expert_metrics(ma.capture(model, other))
effects

# %%
checked = ma.verify(effects, model, n=4)
assert checked.agrees
checked

# %% [markdown]
# ## Which one is worth a look?
#
# The most used expert, and the one whose removal harms most on average (among those with at least 100 removals: a
# mean of a few can be anything). They need not be the same.

# %%
by = ma.harm_by_expert(effects)
use = effects.groupby("expert").size()
often = use[use >= 100].index
busiest = int(use.idxmax())
harmful = int(by[by["expert"].isin(often)].sort_values("harm", ascending=False)["expert"].iloc[0])
for name, expert in (("most used", busiest), ("most harmful to remove", harmful)):
    row = by[by["expert"] == expert].iloc[0]
    print(
        f"{name}: expert {expert}, {use[expert]:,} removals, mean harm {row['harm']:+.4f} nats ({row['harm_low']:+.4f} to {row['harm_high']:+.4f})"
    )
by[by["expert"].isin(often)].sort_values("harm", ascending=False).head()

# %% [markdown]
# ## Its card
#
# Use, harm and disturbance with limits by document, by domain; the tokens where it does most and least, in context;
# who stands beside it and who would replace it; and how much of all this the token alone explains. If token identity
# explains an expert's use but not its harm, then "this is the expert for such tokens" is a statement about the
# router, not about what the expert does. Card and table have the same limits: documents are left out in turn, and
# skewed effects make them longer. Where they hold zero, these documents are too few to say whether it harms.

# %%
card = ma.expert(effects, LAYER, harmful, tokens=seen, metrics=metrics)
card

# %%
mine = effects[effects["expert"] == harmful]
assert card.values["layer"] == LAYER and card.values["expert"] == harmful
row = by[by["expert"] == harmful].iloc[0]
assert abs(card.values["delta_nll_low"] - row["harm_low"]) < 0.01 * (row["harm_high"] - row["harm_low"])
assert abs(card.values["delta_nll"] - mine["delta_nll"].mean()) < 0.01 * abs(
    mine["delta_nll"].mean()
)
flips = mine["flip"].mean()
helps = (mine["delta_nll"] > 0).mean()
print(
    f"expert {harmful}: removing it raises the loss at {helps:.0%} of its tokens and changes the likeliest next token at {flips:.1%}"
)
assert 0 < helps < 1, "no expert helps, or harms, everywhere"

# %% [markdown]
# ## In the text
#
# One document, coloured by the mean harm of all removals at a token. Point at a token to see its numbers.

# %%
view = ma.show_tokens(effects, color="delta_nll", tokens=seen)
view

# %% [markdown]
# ## Does it matter that it is *this* expert?
#
# The router's next choice takes its place at the same tokens. If harm nearly vanishes, another expert does as well.

# %%
rerouted = ma.ablate(model, docs, ma.Reroute(), layers=[LAYER])
both = mine.merge(
    rerouted, on=["document", "position", "layer", "rank", "expert"], suffixes=("", "_rerouted")
)
assert len(both) == len(mine)
print(
    f"KL without it {both['kl'].mean():.4f} nats, with the next in line instead {both['kl_rerouted'].mean():.4f} nats"
)
print(
    f"harm without it {both['delta_nll'].mean():+.4f} nats, with the next in line {both['delta_nll_rerouted'].mean():+.4f} nats"
)
both.groupby("entered").size().nlargest(3).rename("tokens").reset_index()

# %% [markdown]
# ## What may be claimed
#
# What removing this expert does to the next token's prediction, on these documents, one token at a time. Not what it
# "means", not what happens if it is gone for good (notebook 4), and of experts with few removals nothing at all.
