"""The one hook on the experts call, and the turns that threads take with a model."""

import threading

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ContractError
from moeaudit.models.forward import ExpertsSeen, answering, clean_pass, evaluating, listening

IDS = torch.as_tensor(tiny_moe.ids(9))[None]


class Keywords(torch.nn.Module):
    """A block that calls its experts by keyword, which no architecture of transformers does yet."""

    def __init__(self, experts):
        super().__init__()
        self.experts = experts

    def forward(self, hidden, index, weight):
        return self.experts(hidden_states=hidden, top_k_index=index, top_k_weights=weight)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def arguments(layer, tokens=5):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 32, generator=generator)
    index = torch.randint(8, (tokens, 3), generator=generator)
    return hidden, index, torch.rand(tokens, 3, generator=generator)


def test_keywords_are_heard_and_answered():
    layer = tiny_moe.load("olmoe").anatomy[1]
    hidden, index, weight = arguments(layer)
    block = Keywords(layer.experts)
    with torch.no_grad():
        plain = layer.experts(hidden, index, weight * 2)
        with listening([layer]) as heard, answering(layer, lambda h, i, w: (i, w * 2)):
            doubled = block(hidden, index, weight)
    assert torch.equal(doubled, plain)
    assert heard[1].index is index and heard[1].hidden is hidden


def test_an_addition_comes_after_the_answer_and_none_leaves_the_call_alone():
    layer = tiny_moe.load("olmoe").anatomy[1]
    hidden, index, weight = arguments(layer)
    with torch.no_grad():
        plain = layer.experts(hidden, index, weight)
        with answering(layer, lambda *_: None, lambda output: torch.ones_like(output)):
            added = layer.experts(hidden, index, weight)
        with answering(layer, lambda *_: None, lambda _: None):
            left = layer.experts(hidden, index, weight)
    assert torch.equal(added, plain + 1) and torch.equal(left, plain)


def test_more_slots_than_the_router_gave():
    layer = tiny_moe.load("olmoe").anatomy[1]
    hidden, index, weight = arguments(layer)
    more = torch.cat([index, index[:, :1]], 1), torch.cat([weight.double(), weight[:, :1]], 1)
    with torch.no_grad(), answering(layer, lambda *_: more):
        found = layer.experts(hidden, index, weight)
    with torch.no_grad():
        expected = layer.experts(hidden, more[0], more[1].float())
    assert torch.equal(found, expected)


def test_listening_first_hears_the_router_and_last_what_the_experts_get():
    layer = tiny_moe.load("olmoe").anatomy[1]
    hidden, index, weight = arguments(layer)
    heard: dict[str, ExpertsSeen] = {}
    with (
        answering(layer, lambda h, i, w: (i, w * 0)),
        listening([layer], lambda _, seen: heard.setdefault("last", seen)),
        listening([layer], lambda _, seen: heard.setdefault("first", seen), prepend=True),
        torch.no_grad(),
    ):
        layer.experts(hidden, index, weight)
    assert torch.equal(heard["first"].weight, weight) and not heard["last"].weight.any()


def test_nothing_is_left_after_an_error():
    model = tiny_moe.load("olmoe")
    before = hooks(model)

    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), listening(model.anatomy.layers, fail):
        clean_pass(model, model.anatomy.layers, IDS)
    with pytest.raises(ZeroDivisionError), answering(model.anatomy[1], fail, fail):
        clean_pass(model, model.anatomy.layers, IDS)
    assert hooks(model) == before


def test_a_call_that_is_not_the_contracts_is_refused():
    layer = tiny_moe.load("olmoe").anatomy[1]
    with pytest.raises(ContractError, match="layer 1.*called with 1 arguments"), listening([layer]):
        layer.experts(torch.zeros(3, 32))


def test_capture_and_ablate_of_one_model_take_turns():
    model = ma.load(tiny_moe.build("olmoe"))
    documents = [tiny_moe.ids(12, seed) for seed in range(6)]
    routing, effects = ma.capture(model, documents).routing, ma.ablate(model, documents)
    failed: list[BaseException] = []
    captured, ablated = [], []

    def work(into, what):
        try:
            for _ in range(3):
                into.append(what(model, documents))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [
        threading.Thread(target=work, args=(captured, ma.capture)),
        threading.Thread(target=work, args=(ablated, ma.ablate)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert all(each.routing.equals(routing) for each in captured)
    assert all((each.delta_nll == effects.delta_nll).all() for each in ablated)


def test_a_turn_is_re_entrant_and_other_models_need_not_wait():
    one, other = tiny_moe.load("olmoe"), tiny_moe.load("qwen2_moe")
    done = threading.Event()

    def pass_over(model):
        clean_pass(model, (), IDS)
        done.set()

    with evaluating(one.hf), evaluating(one.hf):
        waits = threading.Thread(target=pass_over, args=(one,))
        waits.start()
        assert not done.wait(0.5)
        free = threading.Thread(target=pass_over, args=(other,))
        free.start()
        assert done.wait(30)
        done.clear()
        free.join()
    assert done.wait(30)
    waits.join()
