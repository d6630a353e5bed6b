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
# # 1. Quickstart
#
# What happens to a Mixture-of-Experts model's prediction when one expert is removed for one token at one layer? This
# notebook asks that for *every* token, layer and active expert of a small bundled model, and tests what routing
# statistics say about it. It needs no network and about a minute. What it may claim is about this model and these
# few documents; where they are too few to say, the tables say so.

# %%
import moeaudit as ma

model = ma.load("tiny-olmoe")
model

# %% [markdown]
# ## One edit everywhere, one at a time
#
# `ablate` returns one row for each (document, position, layer, rank). `delta_nll` is the change of the next token's
# loss in nats: positive where removing the expert harms. `max_length` is the longest piece that is read at once:
# longer documents are cut into pieces that do not see each other, and positions go on counting through the document.

# %%
docs = ma.corpus("bundled", split="test").sample(1, seed=0, per_domain=True)
docs

# %%
effects = ma.ablate(model, docs[:2], ma.Zero(), max_length=64)
effects

# %% [markdown]
# The largest single harms, and the layers where removals change the top prediction most often:

# %%
worst = effects.nlargest(5, "delta_nll")
worst

# %%
effects.groupby("layer")[["delta_nll", "kl", "flip"]].mean()

# %% [markdown]
# A selection is a table as any other of pandas. On average a removal costs little, and the few that cost much carry
# it:

# %%
harm = effects["delta_nll"]
top = harm.nlargest(len(harm) // 100)
print(f"{len(harm):,} removals; mean {harm.mean():+.4f} nats, largest {harm.max():+.2f} nats")
print(
    f"{(harm < 0).mean():.0%} of them lower the loss; the largest 1 % sum to {top.sum():.0f} nats of {harm.sum():.0f}"
)
assert harm.max() > 20 * harm.mean() > 0

# %% [markdown]
# ## Are these numbers right?
#
# Any of them can be recomputed by one full forward pass in an engine that shares no code with the replay.

# %%
checked = ma.verify(effects, model, n=5, engine="hooks")
assert checked.agrees
checked

# %% [markdown]
# ## What the router did
#
# `capture` is the clean pass. Metrics are taken from other documents than effects: a metric measured on the very
# tokens whose effects it is to predict would know too much.

# %%
other = ma.corpus("bundled", split="calibration").sample(1, seed=0, per_domain=True)
trace = ma.capture(model, other, max_length=64)
metrics = ma.expert_metrics(trace)
metrics.pivot_table(index="metric", columns="layer", values="value").round(3)

# %%
ma.plot.map(effects, num_experts=trace.facts.num_experts)

# %% [markdown]
# ## The whole audit
#
# `audit` does all of this on many documents, writes a run folder that can be resumed, and tests every metric. Here it
# is kept small (four of eight layers, sixteen documents); the defaults read 160 documents and every layer.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp()) / "run"
run = ma.audit(model, out=folder, documents=16, tokens=32, layers=[0, 2, 4, 6], shift=False)
print(str(run).replace(str(folder), "runs/quickstart"))
assert run.alarm is None

# %%
run.tests

# %%
contrasts = run.tests[run.tests["question"] == "within-token contrast"]
contrasts.groupby(["outcome", "role", "verdict"]).size().unstack(fill_value=0)

# %% [markdown]
# *Inconclusive* is not *none*: with so few documents most questions stay open, and where they do, the report's first
# sentence says that there is too little to say. Whether there is an effect and how large it is are two questions. An
# effect is called present if documents show it *and* the same numbers dealt to other experts of the layer would not do as
# well. *Predictive* (or *reversed*) says that it is also above the smallest effect of interest, 0.01 nats a token here,
# with experts as a sample too and corrected over all contrasts; *present, size open* that this is not settled, *present
# but below* that it is smaller. *Equivalent to none*: none is shown, and any is smaller. A claim is about the experts of a
# layer and this mixture of domains; `supports` says which sentence a row carries. The random pair and score, the gate
# weight and the held-out effect are controls, tested by the same code on the same tokens. Another reader may care for
# another size; the finished table says what would follow:

# %%
ma.stats.verdicts_over(run.tests, ["0.005nats", "0.01nats", "0.05nats", 0.1])

# %%
luck = contrasts[contrasts["metric"].isin(["random", "random_score"])]
assert not luck["verdict"].isin(["predictive", "reversed"]).any(), (
    "a control of luck may not predict"
)
ma.plot.depth(run.effects)

# %% [markdown]
# The report is one HTML file that needs neither network nor scripts:

# %%
page = run.report(folder / "page.html")
assert page.stat().st_size < 4e6
page.name
