"""Layers that share a bank of experts: what the bank is used for, and whether its sites choose alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from moeaudit.errors import InputError
from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import evaluating
from moeaudit.models.router import answer_without
from moeaudit.stats.sets.groups import groups_of
from moeaudit.text.for_model import tokens_for

from ..grouping import Choices
from ..layers import layer_records
from ..trace import Trace

Groups = Iterable[Sequence[int]]


def bank_load(trace: Trace, groups: Groups) -> pd.DataFrame:
    """How much each expert of a bank is used, all its sites together.

    An expert that one layer never chooses is not dead while another does: `dead` is for the bank.

    Args:
        trace: what `capture` returned.
        groups: layers that share their experts, as `model.anatomy.tied`.

    Returns:
        One row for each bank and expert: bank (its first layer), expert, slots (summed over sites), share (of the
        bank's slots), sites (layers that choose it at all), dead (no layer does).

    Raises:
        InputError: no groups, layers that the trace does not have, or layers of one group with different numbers of
            experts.
    """
    rows = []
    for group in groups_of(groups):
        sizes = {trace.facts.num_experts.get(i) for i in group}
        if len(sizes) > 1 and None not in sizes:
            raise InputError(
                f"Layers {list(group)} have {sorted(sizes)} experts, so they share no bank of them."  # type: ignore[type-var]
            )
        counts = []
        for i in group:
            chosen = Choices.of(trace, i).expert
            counts.append(np.bincount(chosen.ravel(), minlength=trace.facts.num_experts[i]))
        table = np.stack(counts)  # (sites, experts)
        slots, sites = table.sum(axis=0), (table > 0).sum(axis=0)
        rows.append(
            pd.DataFrame(
                {
                    "bank": group[0],
                    "expert": np.arange(table.shape[1]),
                    "slots": slots,
                    "share": slots / slots.sum(),
                    "sites": sites,
                    "dead": sites == 0,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def site_agreement(
    model: Model, docs: Any, groups: Groups | None = None, *, max_length: int | None = None
) -> pd.DataFrame:
    r"""Do layers that share experts send a token to the same ones? On its way, and at the same input.

    Two published definitions and two inputs (epfml/looped-moe; arXiv 2606.16825 prints one pair of them). `jaccard` is
    the mean over pairs of sites of \(|A \cap B| / |A \cup B|\), `distinct` \(1 - (u - k) / (\min(gk, E) - k)\) for u
    different experts among the top-k picks of g sites (1 where all agree, 0 where they are as different as can be), and
    `top_1` the share of pairs with the same first choice. Each stands twice: on the true trajectory, where every site
    sees its own hidden state, and with the ending `_same_input`, where all sites are handed what the first one's
    router was given: how alike the *routers* are, at a state that later sites never see. `_gap` is same input less
    trajectory.

    Args:
        model, docs, max_length: as for `capture`.
        groups: layers that share experts; those that share them in memory if None. Layers that share none can be
            named too, as a control.

    Returns:
        One row for each document and bank: document, bank (its first layer), tokens, the nine columns above, and
        `jaccard_chance`, that of independent uniform choices (hypergeometric).

    Raises:
        InputError: a model whose layers share nothing and no groups named, groups that are none, layers with different
            numbers of experts or of active ones.
        ContractError: a router that cannot be run on its own.
    """
    if groups is None and not model.anatomy.tied:
        raise InputError(
            f"The layers of {model.name} share no experts, so there are no sites to compare. Name groups of at least "
            "two layers, such as [[1, 2], [3, 4]], to compare layers that stand apart."
        )
    chosen = groups_of(model.anatomy.tied if groups is None else groups)
    layers = {i: model.anatomy[i] for group in chosen for i in group}
    for group in chosen:
        kinds = {(layers[i].num_experts, layers[i].top_k) for i in group}
        if len(kinds) > 1:
            raise InputError(
                f"Layers {list(group)} have different numbers of experts or active experts ({sorted(kinds)}), so their "
                "choices cannot be compared."
            )
    rows = []
    for chunk in tokens_for(model, docs, max_length).chunks:
        count = len(chunk.ids) - 1
        with evaluating(model.hf):
            ids = torch.from_numpy(chunk.ids)[None].to(model.device)
            _, records = layer_records(model, ids)
            for group in chosen:
                size, k = layers[group[0]].num_experts, layers[group[0]].top_k
                own = np.stack([_ranked(records[i].index, records[i].weight, count) for i in group])
                hidden = records[group[0]].hidden[:count]
                same = np.stack([own[0], *(_asked(layers[i], hidden) for i in group[1:])])
                row: dict[str, Any] = {
                    "document": chunk.document,
                    "bank": group[0],
                    "tokens": count,
                }
                for ending, picks in (("", own), ("_same_input", same)):
                    row |= {f"{name}{ending}": v for name, v in agreement(picks, size).items()}
                for name in ("jaccard", "distinct", "top_1"):
                    row[f"{name}_gap"] = row[f"{name}_same_input"] - row[name]
                row["jaccard_chance"] = _chance(size, k)
                rows.append(row)
    table = pd.DataFrame(rows)
    values = [name for name in table.columns if name not in ("document", "bank", "tokens")]
    weighed = table[values].mul(table["tokens"], axis=0)  # chunks of one document together
    whole = pd.concat([table[["document", "bank", "tokens"]], weighed], axis=1)
    summed: Any = whole.groupby(["document", "bank"], sort=True).sum()
    summed[values] = summed[values].div(summed["tokens"], axis=0)
    return summed.reset_index()


def agreement(picks: Int64[np.ndarray, "sites tokens top_k"], experts: int) -> dict[str, float]:
    """Means over tokens of the three definitions; picks of each site by rank, first choice first."""
    sites, tokens, k = picks.shape
    if sites < 2:
        raise InputError("One site has nobody to agree with; at least two were expected.")
    inside = np.zeros((sites, tokens, experts), dtype=bool)
    np.put_along_axis(inside, picks, True, axis=2)
    pairs = [(a, b) for a in range(sites) for b in range(a + 1, sites)]
    jaccard = [
        ((inside[a] & inside[b]).sum(1) / (inside[a] | inside[b]).sum(1)).mean() for a, b in pairs
    ]
    most = min(sites * k, experts) - k  # how many more than k there can be
    distinct = inside.any(axis=0).sum(axis=1)
    return {
        "jaccard": float(np.mean(jaccard)),
        "distinct": float(1 - ((distinct - k) / most).mean()) if most else 1.0,
        "top_1": float(np.mean([(picks[a, :, 0] == picks[b, :, 0]).mean() for a, b in pairs])),
    }


def _chance(experts: int, k: int) -> float:
    """Mean Jaccard of two independent uniform sets of k of the experts."""
    from scipy.stats import hypergeom

    both = np.arange(k + 1)
    return float((hypergeom.pmf(both, experts, k, k) * both / (2 * k - both)).sum())


def _ranked(index: torch.Tensor, weight: torch.Tensor, count: int) -> np.ndarray:
    order = weight[:count].argsort(dim=-1, descending=True, stable=True)
    return index[:count].long().gather(-1, order).cpu().numpy()


def _asked(layer: MoELayer, hidden: torch.Tensor) -> np.ndarray:
    """What a layer's own router chooses at other hidden states, by its own rule."""
    nobody = torch.zeros(len(hidden), layer.num_experts, dtype=torch.bool, device=hidden.device)
    return _ranked(*answer_without(layer, hidden, nobody), len(hidden))
