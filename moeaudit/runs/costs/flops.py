"""Rows and floating-point operations of a census, counted from the sizes of the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moeaudit.causal.walk.several.sample import share_of
from moeaudit.models.accounting.flops import forward_flops, layer_flops
from moeaudit.models.accounting.shapes import Shapes


@dataclass(frozen=True)
class Work:
    """What a census needs at least. Operations are of matrix products, a multiply-add counted as two.

    `rows`: counterfactuals. `clean`: operations of one plain forward of every document; `carried`: of all
    rows, of which `head` in the head. `beside`: of what a walk does besides and no census needs, a row without
    an edit at each position that has others, and each active expert once more where rows are born; `apart`: what
    of it a sample does beyond its share of a census (0 for a census).
    """

    rows: int
    clean: float | int
    carried: float | int
    head: float | int
    beside: float | int = 0.0
    apart: float | int = 0.0

    @property
    def walked(self) -> float:
        """What the walk really does."""
        return self.flops + self.beside

    @property
    def flops(self) -> float:
        return self.clean + self.carried

    @property
    def forwards(self) -> float:
        """The census in plain forwards of the same documents."""
        return self.flops / self.clean

    @property
    def head_share(self) -> float:
        """Share of the operations that the head takes, in rows and in the clean pass."""
        return self.head / self.flops


def work_of(
    shapes: Shapes, lengths: Mapping[int, int], born: Mapping[int, int], share: float | int = 1.0
) -> Work:
    """Count a census of documents by length: `lengths[T]` documents of T tokens.

    A token that goes through a matrix of m x n weights takes 2mn operations, and attending to a key takes
    2 x heads x (query width + value width). So layer l costs token t (from 0)

        c_l(t) = 2 (dense_l + k_l routed_l) + 2 per_key_l min(t + 1, window_l),

    with dense_l the weights of the attention projections, the router, the shared expert or dense MLP,
    routed_l those of one routed expert and k_l how many work. A clean document of T tokens costs the sum of
    c_l(t) over layers and t < T, and 2 x width x vocabulary each for the head. A counterfactual born at layer
    b at token t < T - 1 (the last has no target) costs c_l(t) in every layer l above b and the head once; at
    b itself nothing new, since the clean pass computes what every active expert says. `born[b]` is how many
    are born at each token (k_b for a removal of each active expert); a share of them scales the rows. The row
    without an edit goes from the first layer in which its position is drawn, which is in layer l behind it with
    the probability 1 - (1 - share)^(layers with births up to l).

    Where a layer mixes tokens otherwise than by softmax attention (`shapes.by_rows` is False) each
    counterfactual is a whole edited forward, and costs as much as one.
    """
    share = share_of(share)
    per_token = sum(born.values())
    rows = clean = carried = head = beside = apart = 0.0
    for tokens, documents in lengths.items():
        one = forward_flops(shapes, tokens)
        clean += documents * one
        head += documents * 2.0 * tokens * shapes.head
        new = (tokens - 1) * per_token * share
        rows += documents * new
        if not shapes.by_rows:
            carried += documents * new * one
            head += documents * new * 2.0 * tokens * shapes.head
            continue
        above, out, through = 0, 0.0, 0.0  # how likely the row without an edit goes along
        for layer in shapes.layers:
            carried += documents * share * above * layer_flops(layer, tokens - 1)
            above += born.get(layer.index, 0)
            if born.get(layer.index, 0) and layer.moe is not None:
                out, through = 1 - (1 - out) * (1 - share), 1.0
                beside += documents * share * (tokens - 1) * 2.0 * layer.moe.top_k * layer.routed
            along = documents * layer_flops(layer, tokens - 1)
            beside, apart = beside + out * along, apart + (out - share * through) * along
        along = documents * (tokens - 1) * 2.0 * shapes.head
        beside, apart = beside + out * along, apart + (out - share * through) * along
        carried += documents * new * 2.0 * shapes.head
        head += documents * new * 2.0 * shapes.head
    return Work(round(rows), clean, carried, head, beside, apart)


def lengths_of(lengths: Sequence[int]) -> dict[int, int]:
    """How many documents there are of each length."""
    out: dict[int, int] = {}
    for each in lengths:
        out[each] = out.get(each, 0) + 1
    return out
