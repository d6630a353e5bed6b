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
# # 4. Which experts can I drop?
#
# Two things are asked of an expert that is to go: what it does for the tokens that use it, and what the model does
# when it is gone for good. The first is a mean of single removals; the second is measured by pruning and reading
# other text. They are not the same: when an expert is gone for good, the router sends its tokens elsewhere, and
# removals add up only if experts do not stand in for each other.

# %%
from dataclasses import replace

import moeaudit as ma


def beginnings(corpus, characters=300):
    """The first characters of each document: this notebook is to be quick."""
    return ma.Corpus([replace(document, text=document.text[:characters]) for document in corpus])


model = ma.load("tiny-olmoe")
score_on = beginnings(ma.corpus("bundled", split="calibration").sample(2, seed=0, per_domain=True))
read = beginnings(ma.corpus("bundled", split="test").sample(2, seed=0, per_domain=True))
model

# %% [markdown]
# ## What each expert does
#
# Mean harm of a removal, with limits by document (documents, not tokens, are what is sampled). An expert whose limits
# hold 0 is *not shown* to matter, which is not the same as shown not to matter.

# %%
effects = ma.ablate(model, score_on, layers=[2, 5], share=0.25, seed=0)
experts = ma.harm_by_expert(effects)
experts.sort_values("harm").head(10)

# %%
useful, hurting = (experts["harm_low"] > 0).sum(), (experts["harm_high"] < 0).sum()
print(
    f"of {len(experts)} experts {useful} have limits above 0, {hurting} below, {len(experts) - useful - hurting} hold it"
)
print(
    f"each interval is for itself: of {len(experts)} at 95 % about {0.05 * len(experts):.0f} miss the truth by luck alone"
)
assert useful + hurting < len(experts) / 2, "with so few documents most experts stay undecided"

# %%
ma.plot.map(effects)

# %% [markdown]
# ## What pruning them costs
#
# Criteria are computed on one set of documents and judged on another. Random choices of as many experts are the bar:
# a criterion that does no better than luck names experts by chance. `utilisation` drops what is chosen least, `reap`
# weighs outputs, `random` is the bar.

# %%
curve = ma.prune_curve(
    model, read, ["utilisation", "reap"], keep=(0.75, 0.5), calibration=score_on, draws=8
)
curve

# %%
ma.plot.pruning(curve)

# %%
overview = curve.overview()
overview[["criterion", "keep", "ppl", "d_nll", "low", "high"]].round(3)

# %% [markdown]
# ## What may be claimed
#
# With eight random draws a criterion can be cheaper than all of them by luck: the table's `verdict` says when draws
# are too few for a word. What documents say of *these* experts is in `verdict_these_experts`.

# %%
half = overview[(overview["keep"] == 0.5) & (overview["kind"] != "whole")].set_index("criterion")
for name, row in half.iterrows():
    print(
        f"{name}: dropping half of the experts costs {row['d_nll']:+.3f} nats a token ({row['low']:+.3f} to {row['high']:+.3f})"
    )
assert half.loc["random", "d_nll"] > 0, "half of the experts are not free, whoever chooses them"
assert (overview.loc[overview["kind"] == "criterion", "d_nll"] < half.loc["random", "d_nll"]).any()

# %%
kept = curve.kept("reap", 0.75)
gone = {layer: sorted(set(range(32)) - set(stay)) for layer, stay in kept.items()}
print("reap would drop, by layer:", gone)
assert all(len(stay) == 24 for stay in kept.values())

# %% [markdown]
# `ma.export_pruned(model, kept, folder)` writes the checkpoint with a card that says how the experts were chosen and
# what it cost. On your own model, take more documents and at least `20 k - 1` draws for k criteria (`moeaudit prune
# --help`).
