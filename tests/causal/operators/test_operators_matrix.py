"""Every operator x seven architectures x three implementations of experts, against plain forwards.

Two more architectures stand for the other ways in which rows are made: flex_olmo, whose layers are
run again for each row, and jamba, where each row is a forward of its own. What stands on the other
side is written out here and in `by_hand`: one forward of the whole document, with the answer of
each edited position made from the operator's formula.
"""

import functools

import pytest
import torch
from made.by_hand import answered, block, build, choose, document, forward

import moeaudit as ma
from moeaudit.causal import expert_outputs
from moeaudit.errors import ModelError

CHANGES = {
    "olmoe": {},
    "qwen2_moe": {},
    "deepseek_v2": {"routed_scaling_factor": 1.5},
    "mixtral": {},
    "deepseek_v3": {"routed_scaling_factor": 2.5},
    "qwen3_moe": {"norm_topk_prob": True},
    "gpt_oss": {},
    "flex_olmo": {},
    "jamba": {},
}
IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
MODELS = [(name, i) for name in list(CHANGES)[:7] for i in IMPLEMENTATIONS] + [
    ("flex_olmo", "grouped_mm"),
    ("jamba", "grouped_mm"),
]
TOKENS, CELLS = 9, 2
IDS = document(TOKENS)


@functools.cache
def loaded(name, implementation):
    model = build(name, **CHANGES[name])
    return ma.load(model, experts_implementation=implementation)


@functools.cache
def held_out(name, implementation):
    docs = [IDS, document(40, seed=3)]  # so that something stands for every active expert
    return expert_outputs(loaded(name, implementation), docs, keep=3)


@functools.cache
def clean(name, implementation):
    return forward(loaded(name, implementation).hf, IDS)


def hands_half_on(routing):
    """Half of the largest weight goes to the expert one further on."""
    entering = (routing.index[:, :1] + 1) % routing.layer.num_experts
    half = routing.weight[:, :1] / 2
    return (
        torch.cat([routing.index, entering], -1),
        torch.cat([half, routing.weight[:, 1:], half], -1),
    )


def edited_slots(edit, positions):
    """An answer in which `edit(index, weight)`, both lists in rank order, replaces those positions."""

    def answer(hidden, index, weight):
        rows = []
        for t in range(len(index)):
            pairs = sorted(zip(weight[t].tolist(), index[t].tolist()), key=lambda pair: -pair[0])
            values, experts = [w for w, _ in pairs], [i for _, i in pairs]
            rows.append(edit(experts, values) if t in positions else (experts, values))
        slots = max(len(experts) for experts, _ in rows)
        experts = [list(i) + [0] * (slots - len(i)) for i, _ in rows]
        values = [list(w) + [0.0] * (slots - len(w)) for _, w in rows]
        return torch.tensor(experts), torch.tensor(values)

    return answer


def without_rank(r):
    return lambda i, w: (i, [0.0 if s == r else x for s, x in enumerate(w)])


def without_members(members):
    return lambda i, w: (i, [0.0 if members >> s & 1 else x for s, x in enumerate(w)])


def scaled_up(r, to):
    def edit(i, w):
        goal = 1.0 if to == "one" else sum(w)
        left = sum(w) - w[r]
        return i, [0.0 if s == r else x * goal / left for s, x in enumerate(w)]

    return edit


def swapped(r, expert):
    return lambda i, w: ([expert if s == r else e for s, e in enumerate(i)], w)


def half_on(i, w):
    # Eight experts in every model here.
    return [*i, (i[0] + 1) % 8], [w[0] / 2, *w[1:], w[0] / 2]


def plain(model, row, edit):
    """Log-probabilities with one position of one layer edited."""
    answer = edited_slots(edit, {row.position})
    return [forward(model.hf, IDS, {model.anatomy[row.layer].experts: answer})]


def plain_vector(model, row, outputs):
    """The expert of `row` replaced by each of `outputs` in turn, at its weight."""
    experts = model.anatomy[row.layer].experts
    answer = edited_slots(without_rank(row.rank), {row.position})
    found = []
    for output in outputs:

        def add(routed, output=output):
            routed[row.position] += row.weight * output
            return routed

        found.append(forward(model.hf, IDS, {experts: answer}, {experts: add}))
    return found


def plain_reroute(model, row, scores):
    index, _ = answer = choose(
        model.hf, row.layer, seen(model, row.layer)[row.position], {row.expert}, scores
    )
    assert row.entered in index and row.entered != row.expert
    assert abs(dict(zip(*answer))[row.entered] - row.entered_weight) < 1e-5
    only = answered(
        model.hf, row.layer, scores, lambda t, _: {row.expert} if t == row.position else set()
    )
    return [forward(model.hf, IDS, {model.anatomy[row.layer].experts: only})]


def seen(model, layer):
    kept = []

    def look(hidden, index, weight):
        kept.append(hidden)
        return index, weight

    forward(model.hf, IDS, {model.anatomy[layer].experts: look})
    return kept[0]


def times(rank, factor):
    return lambda i, w: (i, [x * factor if r == rank else x for r, x in enumerate(w)])


def plain_shared(model, row, value):
    """The shared expert's gated output at one position, as if its gate were at `value`."""
    moe = block(model.hf, row.layer)
    if value == 0.0:
        module = getattr(moe, "shared_expert", None) or moe.shared_experts

        def change(output):
            output.view(TOKENS, -1)[row.position] = 0.0
            return output

    else:
        module = moe.shared_expert_gate

        def change(score):
            score.view(TOKENS, 1)[row.position] = torch.logit(torch.tensor(value))
            return score

    return [forward(model.hf, IDS, {}, {module: change})]


def plain_sequence(model, row, operator):
    """The edit made at every position: about one expert where it is active, or by rank."""
    experts, everywhere = model.anatomy[row.layer].experts, set(range(TOKENS))
    if operator.by == "rank":
        tail = edited_slots(
            lambda i, w: (i, w[: row.rank] + [0.0] * (len(w) - row.rank)), everywhere
        )
        return [forward(model.hf, IDS, {experts: tail})]
    if operator.operator.name == "reroute":
        answer = answered(model.hf, row.layer, "kept", lambda _, active: active & {int(row.expert)})
    else:
        answer = edited_slots(
            lambda i, w: (i, [0.0 if e == row.expert else x for e, x in zip(i, w)]), everywhere
        )
    return [forward(model.hf, IDS, {experts: answer})]


def plain_pruned(model, operator):
    answers = {}
    for layer, gone in operator.experts.items():
        if operator.rule == "zero":
            answer = edited_slots(
                lambda i, w, gone=gone: (i, [0.0 if e in gone else x for e, x in zip(i, w)]),
                set(range(TOKENS)),
            )
        else:
            answer = answered(model.hf, layer, operator.scores, lambda _, __, gone=gone: set(gone))
        answers[model.anatomy[layer].experts] = answer
    return [forward(model.hf, IDS, answers)]


def pruned(model, **options):
    low, high = model.anatomy.indices[-2:]
    return ma.Without({low: [0, 3], high: [1, 4, 6]}, **options)


# name -> (the operator, what a plain forward of one of its rows gives)
OPERATORS = {
    "zero": (lambda *_: ma.Zero(), lambda m, r, o: plain(m, r, without_rank(r.rank))),
    "renormalize to sum": (
        lambda *_: ma.Renormalize("sum"),
        lambda m, r, o: plain(m, r, scaled_up(r.rank, "sum")),
    ),
    "renormalize to one": (
        lambda *_: ma.Renormalize("one"),
        lambda m, r, o: plain(m, r, scaled_up(r.rank, "one")),
    ),
    "swap": (
        lambda *_: ma.Swap(5),
        lambda m, r, o: plain(m, r, swapped(r.rank, 5)),
    ),
    "swap all": (
        lambda *_: ma.Swap("all"),
        lambda m, r, o: plain(m, r, swapped(r.rank, r.entered)),
    ),
    "skip": (
        lambda *_: ma.Skip(),
        lambda m, r, o: plain(m, r, without_members(-1 << r.rank)),
    ),
    "scale": (lambda *_: ma.Scale(-0.5), lambda m, r, o: plain(m, r, times(r.rank, -0.5))),
    "coalitions": (
        lambda *_: ma.Coalitions(),
        lambda m, r, o: plain(m, r, without_members(r.members)),
    ),
    "custom": (
        lambda *_: ma.Custom(hands_half_on, name="half on"),
        lambda m, r, o: plain(m, r, half_on),
    ),
    "mean output": (
        lambda _, said: ma.MeanOutput(said),
        lambda m, r, o: plain_vector(m, r, [o.held_out.mean(m.anatomy[r.layer], r.expert)]),
    ),
    "resample": (
        lambda _, said: ma.Resample(said, seed=2),
        lambda m, r, o: plain_vector(m, r, o.held_out.some(m.anatomy[r.layer], r.expert)),
    ),
    "reroute": (lambda *_: ma.Reroute(), lambda m, r, o: plain_reroute(m, r, "kept")),
    "reroute remaining": (
        lambda *_: ma.Reroute("remaining"),
        lambda m, r, o: plain_reroute(m, r, "remaining"),
    ),
    "shared expert": (lambda *_: ma.SharedExpert(), lambda m, r, o: plain_shared(m, r, 0.0)),
    "shared gate open": (lambda *_: ma.SharedGate(), lambda m, r, o: plain_shared(m, r, 1.0)),
    "shared gate half": (lambda *_: ma.SharedGate(0.5), lambda m, r, o: plain_shared(m, r, 0.5)),
    "zero everywhere": (lambda *_: ma.Everywhere(ma.Zero()), plain_sequence),
    "reroute everywhere": (lambda *_: ma.Everywhere(ma.Reroute()), plain_sequence),
    "skip everywhere": (lambda *_: ma.Everywhere(ma.Skip(), by="rank"), plain_sequence),
    "experts absent": (lambda m, _: pruned(m), lambda m, r, o: plain_pruned(m, o)),
    "experts absent, kept": (
        lambda m, _: pruned(m, scores="kept"),
        lambda m, r, o: plain_pruned(m, o),
    ),
    "experts zeroed": (
        lambda m, _: pruned(m, rule="zero"),
        lambda m, r, o: plain_pruned(m, o),
    ),
}
GATED, SHARED = {"qwen2_moe"}, {"qwen2_moe", "deepseek_v2", "deepseek_v3"}


def expressible(name, operator):
    if operator.startswith("shared gate"):
        return name in GATED
    return operator != "shared expert" or name in SHARED


@pytest.mark.parametrize("operator", list(OPERATORS))
@pytest.mark.parametrize(("name", "implementation"), MODELS)
def test_every_operator_equals_a_plain_forward(name, implementation, operator):
    model = loaded(name, implementation)
    make, reference = OPERATORS[operator]
    needs = operator in ("mean output", "resample")
    asked = make(model, held_out(name, implementation) if needs else None)
    if not expressible(name, operator):
        with pytest.raises(ModelError, match=f"{model.anatomy.architecture}, layer"):
            ma.ablate(model, [IDS], asked)
        return
    effects = ma.ablate(model, [IDS], asked, layers=model.anatomy.indices[-2:])
    before, biggest = clean(name, implementation), 0.0
    for row in effects.sample(CELLS, random_state=0).itertuples():
        target = IDS[row.position + 1]
        rows = [float((before - x)[row.position, target]) for x in reference(model, row, asked)]
        assert min(abs(delta - row.delta_nll) for delta in rows) <= 1e-5
        biggest = max(biggest, *map(abs, rows))
    assert biggest > 1e-5 or "swap" in operator  # which may put an expert in its own place
