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
# # 6. My own model and text
#
# Anything that transformers loads as a mixture of experts with the router contract can be audited: a hub id, a
# folder, or the object that you hold. Here a model is made on the spot: a DeepSeek-V2 with random weights, whose
# first layer is dense and whose other layers have a shared expert. What is shown is how such a model is checked and
# read; random weights have nothing to say.

# %%
import moeaudit as ma

import torch
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

torch.manual_seed(0)
config = DeepseekV2Config(
    vocab_size=2048, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=4, n_routed_experts=16, num_experts_per_tok=4, n_shared_experts=1,
    first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=None, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16,
    max_position_embeddings=128, pad_token_id=None, bos_token_id=None, eos_token_id=None, initializer_range=0.1,
)  # fmt: skip
mine = DeepseekV2ForCausalLM(config).eval()
tokenizer = ma.load("tiny-olmoe").tokenizer
model = ma.load(mine, tokenizer=tokenizer)
model

# %% [markdown]
# `load` did not look at names: it ran the model and checked that the experts' outputs, weighted as the router said,
# add up to what the block returned, in every layer. Layer numbers are the decoder's own: the first one is dense, so
# audited layers begin at 1. What does not keep the contract is refused, naming what is missing:

# %%
from transformers import LlamaConfig, LlamaForCausalLM

dense = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
)
try:
    ma.load(dense)
except ma.MoeAuditError as refusal:
    print(refusal)
else:
    raise AssertionError("a dense model was not refused")

# %% [markdown]
# ## My text
#
# A list of strings, a folder (a sub-folder is a domain), a .jsonl file, a `datasets.Dataset`. Empty and repeated
# texts are left out and the notes say so: documents are the unit of every statistic, and a copy would count twice.

# %%
texts = ma.documents(
    [
        "The mill stands by the river, and the river turns the wheel.",
        "A recipe for bread: flour, water, salt, and a night of patience.",
        "def area(width, height):\n    return width * height",
        "The mill stands by the river, and the river turns the wheel.",
        "",
    ]
)
assert len(texts) == 3
texts

# %%
texts[2]

# %% [markdown]
# ## The same calls

# %%
effects = ma.ablate(model, texts)
assert set(effects["layer"]) == {1, 2, 3}
effects

# %%
checked = ma.verify(effects, model, n=6)
assert checked.agrees
checked

# %% [markdown]
# The shared expert has its own operator; every token passes it, so its row names no routed expert (rank and expert
# -1):

# %%
shared = ma.ablate(model, texts, ma.SharedExpert())
assert (shared["expert"] == -1).all()
print(
    f"mean KL of removing one routed expert {effects['kl'].mean():.4f} nats, the shared one {shared['kl'].mean():.4f} nats"
)
assert shared["kl"].mean() > effects["kl"].mean()

# %% [markdown]
# ## What it would cost at true size
#
# Before a large model is loaded: how many rows, how long, how much memory. Nothing is downloaded for a model whose
# configuration is at hand.

# %%
ma.cost(mine.config, documents=160, tokens=128)
