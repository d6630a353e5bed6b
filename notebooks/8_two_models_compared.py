# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two models compared
#
# Two runs answer the same question but for one thing: the operator, the model, the checkpoint, the date. What differs, and
# how sure is that? This notebook audits a small bundled model under two operators and a second model on the same text, and
# holds them against each other. It needs no network and about two minutes on two cores.

# %%
import moeaudit as ma

asked = {
    "documents": 14,
    "tokens": 40,
    "layers": [1, 4, 5],
    "metrics": ["utilisation", "reap"],
    "shift": False,
    "verify_rows": 2,
    "verify_engines": ("hooks",),
}
zero = ma.audit("tiny-olmoe", out="runs/zero", **asked)
reroute = ma.audit("tiny-olmoe", out="runs/reroute", operator="reroute", **asked)
zero

# %% [markdown]
# ## Two operators
#
# `zero` takes an expert away and puts nothing in its place; `reroute` lets the router's next choice enter. `compare` finds
# by itself that the operator is what differs. Both runs read the same tokens, so differences are **paired by document**.

# %%
operators = ma.compare(zero, reroute)
assert operators.pairs[0].asked.across == ("operator",)
assert operators.pairs[0].documents == (0, 14, 0)
operators

# %%
operators.whole[["outcome", "mean_a", "mean_b", "difference", "low", "high", "verdict"]]

# %% [markdown]
# The difference is that of the two means. Its limits are shorter than those of either run alone, here layer by layer: what a
# document does to both runs is taken off.

# %%
harm = operators.whole.set_index("outcome").loc["delta_nll"]
means = [run.effects["delta_nll"].astype("float64").mean() for run in (zero, reroute)]
assert abs(harm["difference"] - (means[0] - means[1])) < 1e-9

alone = operators.profile[operators.profile["outcome"] == "delta_nll"]
alone = (alone["high"] - alone["low"]).groupby(alone["run"]).mean()
paired = operators.layers[operators.layers["outcome"] == "delta_nll"]
paired = (paired["high"] - paired["low"]).mean()
assert paired < alone.min()
alone, paired

# %% [markdown]
# The maps of both runs and of their difference, the same cell at the same place:

# %%
operators.figure("kl")

# %% [markdown]
# Are the experts that are costly under one operator costly under the other? The rank correlation within each layer; *apart*
# takes the two runs' means from separate halves of the documents, and *halves* is what one run's own halves agree to, which
# is all that could be expected.

# %%
operators.ranks[["outcome", "layer", "rho", "low", "high", "apart", "halves", "experts"]]

# %% [markdown]
# ## What it says of noise
#
# A run against itself differs by exactly 0.0 everywhere, and nothing is claimed.

# %%
again = ma.compare(zero, zero)
assert again.identical
assert (again.cells["difference"] == 0.0).all() and again.cells["p"].isna().all()
again.sentences[0]

# %% [markdown]
# `resample` puts another token's output in the place of an expert's, drawn by a seed. Two seeds ask the same question; any
# claim about their difference would be false.

# %%
seeds = [
    ma.audit(
        "tiny-olmoe",
        out=f"runs/resample-{seed}",
        operator=f"resample:{seed}",
        **asked | {"layers": [4]},
    )
    for seed in (0, 1)
]
noise = ma.compare(*seeds)
assert noise.whole["difference"].abs().gt(0).all()
claims = noise.cells["verdict"].isin(
    ["larger in A", "larger in B", "differ, size open", "differ, but by less"]
)
assert claims.sum() == 0
noise.cells["verdict"].value_counts()

# %% [markdown]
# ## Two models
#
# Two trainings have no experts in common: expert 5 of one is not expert 5 of the other, and their layers are no counterparts
# where the depth differs. Compared is what can be: all audited rows, thirds of the
# depth, and how far down the damage lies (an early, a middle and a late layer of each).

# %%
qwen = ma.audit("tiny-qwen2-moe", out="runs/qwen", **asked | {"layers": [0, 3, 5]})
models = ma.compare(zero, qwen)
assert models.pairs[0].asked.across == ("model",)
assert models.cells.empty and models.layers.empty
assert any("decoder layers" in said for said in models.not_compared)
models

# %%
models.figure()

# %% [markdown]
# ## What cannot be compared is refused, by name

# %%
try:
    ma.compare(reroute, qwen)
except ma.MoeAuditError as error:
    said = str(error)
assert "operator" in said and "model" in said
print(said)

# %% [markdown]
# ## A page

# %%
page = operators.save("comparison.html")
assert "<script" not in page.read_text()
page
