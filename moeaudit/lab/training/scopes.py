"""Over which tokens loads are counted: the scopes of the load-balancing loss."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from moeaudit.errors import InputError
from moeaudit.seeds import generator

from ..recipes.sections import Balance
from .mechanism import Batch


def groups_of(batch: Batch, balance: Balance, seed: int, step: int) -> Int[Tensor, " tokens"]:
    """The group of every token of a step, 0, 1, ...: all one, equal numbers of rows, or rows.

    Rows come sorted by domain, so a group of rows reads one domain (`require_pure`). With `shuffled` the same
    sizes are dealt to tokens at random, anew each step.
    """
    rows, length = batch.ids.shape
    if balance.scope in ("global", "none"):
        group = torch.zeros(rows, dtype=torch.long)
    elif balance.scope == "sequence":
        group = torch.arange(rows)
    else:
        group = torch.arange(rows) // (rows // balance.groups)
    token = group.repeat_interleave(length)
    if balance.shuffled:
        order = generator(seed, "balance groups", step).permutation(len(token))
        token = token[torch.from_numpy(order)]
    return token.to(batch.ids.device)


def require_pure(balance: Balance, rows: int, domains: int) -> None:
    """Raise InputError unless each group of rows of scope "micro" can be of one domain."""
    if balance.scope != "micro" or balance.shuffled:
        return
    of_group, of_domain = rows // balance.groups, rows // domains
    if rows % balance.groups or of_domain % of_group:
        raise InputError(
            f"[balance] groups is {balance.groups}: {rows} rows of {domains} domains make {of_domain} a domain and "
            f"{of_group} a group, and each group must read one domain. Give a multiple of the number of domains that "
            "divides the rows, or shuffled = true."
        )
