"""Summaries of sets of experts from shards: read once, and equal to those of the whole table."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from made.shards import Cut

from moeaudit.stats.sets.interactions import interactions, redundancy
from moeaudit.stats.sets.shapley import shapley


def sets(orders: int = 0) -> pd.DataFrame:
    """Made effects of all sets of three experts, or of random orders of removal."""
    rng = np.random.default_rng(0)
    rows = []
    for document, position, layer in itertools.product(range(6), range(3), (1, 2)):
        masks = [(m, -1) for m in (range(1, 8) if not orders else (1, 2, 4, 7))]
        for order in range(orders):
            who = rng.permutation(3)
            masks += [(1 << who[0], order), ((1 << who[0]) | (1 << who[1]), order)]
        for members, permutation in masks:
            rank = int(members).bit_length() - 1
            rows.append((document, position, layer, rank, 5 + rank, 0.2, members, permutation))
    names = ["document", "position", "layer", "rank", "expert", "weight", "members", "permutation"]
    table = pd.DataFrame(rows, columns=names)
    # One value a set and token, as a set is the same whatever order led to it.
    key = table.groupby(["document", "position", "layer", "members"]).ngroup()
    table["delta_nll"] = rng.random(key.max() + 1)[key]
    return table if orders else table.drop(columns="permutation")


class Folder(Cut):
    """Shards that count how often they are read."""

    readings = 0

    def frames(self, columns=None):
        self.readings += 1
        return super().frames(columns)


@pytest.mark.parametrize(
    ("summary", "orders"), [(interactions, 0), (redundancy, 0), (shapley, 0), (shapley, 4)]
)
def test_shards_are_read_once_and_give_the_same_numbers(summary, orders):
    table = sets(orders)
    folder = Folder(table, 3)
    found = summary(folder)
    assert folder.readings == 1
    pd.testing.assert_frame_equal(found, summary(table), check_exact=True)


def test_a_folder_that_can_only_be_read_whole_will_do():
    table = sets()

    class Whole:
        def read(self):
            return table

    pd.testing.assert_frame_equal(shapley(Whole()), shapley(table), check_exact=True)
