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
# # 5. Calibration under shift
#
# A model is calibrated if of the predictions that it makes with 70 % confidence about 70 % are right. Does dropping
# experts change that, and does it change more on text of other domains? Loss does not answer this: a pruned model can
# lose little and still be sure of itself where it should not be.

# %%
from dataclasses import replace

import moeaudit as ma


def beginnings(corpus, characters=400):
    """The first characters of each document: this notebook is to be quick."""
    return ma.Corpus([replace(document, text=document.text[:characters]) for document in corpus])


model = ma.load("tiny-olmoe")
home = beginnings(ma.corpus("bundled", split="test").sample(4, seed=0, per_domain=True))
fit = beginnings(ma.corpus("bundled", split="calibration").sample(2, seed=0, per_domain=True))
away = ma.corpus("bundled", split="shift")
away = away.sample(min(24, len(away)), seed=0)
home

# %%
away

# %% [markdown]
# ## The clean model
#
# One prediction a token: how confident, and right or not, by domain. The band is where calibrated confidences would
# lie; limits are by document.

# %%
trace = ma.capture(model, home)
predictions = ma.Predictions.from_frame(trace.tokens, group="domain")
predictions

# %%
bins = ma.reliability(predictions, draws=200)
bins

# %%
ma.plot.reliability(predictions, draws=200)

# %% [markdown]
# ## Two prunings, at home and away
#
# In layer 3, the eight experts that are used least go, or the eight that are used most. Each condition is read on the
# same tokens as the clean model, so that differences are paired; other documents fit the temperatures.

# %%
metrics = ma.expert_metrics(trace)
use = metrics[(metrics["metric"] == "utilisation") & (metrics["layer"] == 3)].sort_values("value")
least, most = ([int(e) for e in part["expert"]] for part in (use.head(8), use.tail(8)))
audit = ma.calibration_audit(
    model,
    home,
    away,
    {"least used": {3: least}, "most used": {3: most}},
    fit=fit,
    tokens=48,
    draws=200,
    routing=False,
)
audit

# %%
cost = {name: audit.difference(name, "loss", "in domain") for name in ("least used", "most used")}
for name, row in cost.items():
    print(
        f"{name}: {row['difference']:+.4f} nats a token in domain ({row['low']:+.4f} to {row['high']:+.4f})"
    )
assert cost["most used"]["difference"] > cost["least used"]["difference"]

# %% [markdown]
# ## Does temperature repair it?
#
# A temperature is one number, fitted at home. Where the miscalibration away from home is of another kind, it cannot
# help, and the table says so with limits.

# %%
audit.tables["temperatures"]

# %%
scores = audit.tables["scores"]
whole = scores[scores["whole"] & (scores["score"] == "gap")]
whole.pivot_table(index=["condition", "method"], columns="side", values="value").round(3)

# %%
clean = whole[(whole["condition"] == "clean") & (whole["method"] == "none")].set_index("side")
for side in clean.index:
    row = clean.loc[side]
    print(
        f"clean, {side}: confidence - accuracy {row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    )
assert set(clean.index) == {"in domain", "shifted"}

# %% [markdown]
# ## What may be claimed
#
# Whether the gap *changes* by a pruning is what `difference(name, "gap", side)` tests, paired by token. An interval
# that holds 0 is no sign of "no change": it says what the change can at most be, with these documents.

# %%
for name in cost:
    row = audit.difference(name, "gap", "shifted")
    sure = "is shown" if row["low"] > 0 or row["high"] < 0 else "is not shown"
    print(
        f"{name}: the gap under shift changes by {row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f}); a change {sure}"
    )
