"""Statistics of shards equal those of the whole table bit for bit, and do not hold its rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census
from made.shards import Cut

from moeaudit.errors import InputError
from moeaudit.stats import contrast, expert_harm, pooled, regression
from moeaudit.store.shards import Shards


def mixed(documents=15):
    """Float32 effects of documents whose numbers do not rise, with rows in no order."""
    effects, metrics = census(documents=documents, slope=0.2)
    number = np.random.default_rng(3).permutation(documents * 2)[:documents]
    effects["document"] = number[effects["document"]]
    effects["delta_nll"] = effects["delta_nll"].astype("float32")
    return effects.sample(frac=1, random_state=2), metrics


@pytest.mark.parametrize("question", [contrast, expert_harm, pooled, regression])
@pytest.mark.parametrize("pieces", [1, 2, 7, 15])
def test_shards_give_the_numbers_of_the_whole_table(question, pieces):
    effects, metrics = mixed()
    whole = question(effects, metrics, seed=1, **QUICK)
    shards = Cut(effects, pieces)
    assert len(shards.parts) == -(-15 // -(-15 // pieces))
    pd.testing.assert_frame_equal(
        question(shards, metrics, seed=1, **QUICK), whole, check_exact=True
    )


@pytest.mark.parametrize("outcome", ["abs_delta_nll", "kl", "flip"])
def test_every_outcome_and_a_choice_of_layers_are_streamed(outcome):
    effects, metrics = mixed()
    options = dict(outcome=outcome, layers=[2], sizes=("cliffs_delta", "rank_biserial"))
    whole = contrast(effects, metrics, **options, **QUICK)
    assert set(whole["layer"]) == {2}
    pd.testing.assert_frame_equal(
        contrast(Cut(effects, 4), metrics, **options, **QUICK), whole, check_exact=True
    )


def test_shards_on_disk_are_read_by_column(tmp_path):
    effects, metrics = mixed()
    shards = Shards(tmp_path)
    for number, part in enumerate(Cut(effects, 4).parts):
        shards.write(number, part)
    for question in (contrast, expert_harm):
        pd.testing.assert_frame_equal(
            question(shards, metrics, **QUICK),
            question(effects, metrics, **QUICK),
            check_exact=True,
        )


def test_only_the_columns_needed_are_asked_for():
    effects, metrics = mixed()
    shards = Cut(effects, 3)
    contrast(shards, metrics, outcome="kl", **QUICK)
    assert shards.asked == [["document", "position", "layer", "rank", "expert", "kl"]]


def test_a_document_in_two_shards_is_refused():
    effects, metrics = mixed()
    shards = Cut(effects, 3)
    shards.parts.append(shards.parts[0])
    with pytest.raises(InputError, match="more than one shard"):
        contrast(shards, metrics, **QUICK)
    with pytest.raises(InputError, match="more than one shard"):
        expert_harm(shards, metrics, **QUICK)


def test_no_shard_is_no_row():
    effects, metrics = mixed()
    shards = Cut(effects, 1)
    shards.parts = []
    with pytest.raises(InputError, match="no rows"):
        contrast(shards, metrics, **QUICK)


class Made:
    """Shards made when they are read, so that the table itself is never in memory."""

    def __init__(self, number: int) -> None:
        self.number = number

    def frames(self, columns=None):
        for shard in range(self.number):
            part = census(documents=4, tokens=100, layers=range(4), top_k=8, seed=shard)[0]
            part["document"] += 4 * shard
            yield part[columns]


def peak(question, shards: int) -> int:
    _, metrics = census(layers=range(4))
    tracemalloc.start()
    try:
        question(Made(shards), metrics, controls=("random",), **QUICK)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_expert_harm_does_not_hold_rows():
    few, many = peak(expert_harm, 3), peak(expert_harm, 15)
    # 12 shards more are 153,600 rows more; a frame of their seven columns would be 8.6 MB.
    assert many - few < 0.1 * 153_600 * 56


def test_a_contrast_holds_a_few_bytes_a_row():
    few, many = peak(contrast, 3), peak(contrast, 15)
    # One layer's arrays and cells (a quarter of the rows here) and the packed rest.
    assert many - few < 0.75 * 153_600 * 56
