"""Edits of the router's answer, by hand."""

import torch
from made import tiny_moe

from moeaudit.causal import Routing, Zero
from moeaudit.causal.operators.routing import edited_answer, rank_order


def test_ranks_follow_the_weight_and_ties_keep_their_slot():
    index, weight = rank_order(torch.tensor([[5, 2, 7, 1]]), torch.tensor([[0.1, 0.4, 0.1, 0.3]]))
    assert index.tolist() == [[2, 1, 5, 7]]
    torch.testing.assert_close(weight, torch.tensor([[0.4, 0.3, 0.1, 0.1]]))


def test_zero_removes_each_active_expert_once():
    layer = tiny_moe.load("olmoe").anatomy.layers[0]
    index, weight = torch.tensor([[3, 1]]), torch.tensor([[0.6, 0.2]])
    edits = Zero().edits(
        Routing(layer, index, weight, torch.zeros(1, 32), torch.zeros(1, dtype=torch.long))
    )
    assert edits.rank.tolist() == [[0, 1]]
    assert edits.expert.tolist() == [[[3], [1]]]
    torch.testing.assert_close(edits.change, torch.tensor([[[-0.6], [-0.2]]]))


def test_an_edited_answer_holds_an_exact_zero_and_no_sentinel():
    index, weight = torch.tensor([[3, 1], [0, 2]]), torch.tensor([[0.6, 0.2], [0.5, 0.4]])
    expert, change = torch.tensor([[1], [0]]), torch.tensor([[-0.2], [-0.5]])
    new_index, new_weight = edited_answer(index, weight, expert, change)
    assert new_index.tolist() == index.tolist()
    assert new_weight.tolist() == [[torch.tensor(0.6).item(), 0.0], [0.0, torch.tensor(0.4).item()]]


def test_an_expert_that_was_not_active_gets_a_slot():
    index, weight = torch.tensor([[3, 1]]), torch.tensor([[0.6, 0.2]])
    new_index, new_weight = edited_answer(
        index, weight, torch.tensor([[1, 4]]), torch.tensor([[-0.2, 0.2]])
    )
    assert new_index.tolist() == [[3, 1, 0, 4]]
    torch.testing.assert_close(new_weight, torch.tensor([[0.6, 0.0, 0.0, 0.2]]))
