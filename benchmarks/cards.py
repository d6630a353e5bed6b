"""Sizes and census costs of the models on the cards, from transformers' own classes without weights.

python benchmarks/cards.py            # writes moeaudit/models/bundled/cards/sizes.json and docs/lab/cards.md
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import moeaudit as ma
from moeaudit.models.bundled import cards as room
from moeaudit.models.bundled.cards import Card, Sizes
from moeaudit.runs.costs.words import duration

ROOT = Path(__file__).parents[1]
TOKENS, DOCUMENTS = 128, 160
AUDITS = {
    "yes": "yes",
    "memory": "yes, where it fits or streams",
    "object": "the loaded object only",
    "no": "no",
}
HEAD = """# Cards

What this suite can and cannot do with well-known MoE models, and what a census of each costs. `moeaudit models --all`
shows it in the terminal, `--json` for programs; in Python `moeaudit.models.bundled.cards.cards()`. This page is written
by `python benchmarks/cards.py` from `moeaudit/models/bundled/cards/cards.toml`.

**No weights of these models were at hand.** Where transformers has a class of its own, a small instance of it with
random weights is loaded and audited in the tests, and router, weights' sum, shared expert and dense layers are read off
it (`tests/models/cards`); sizes and costs are computed from the class at full size, without weights, by the formula of
[costs.md](../costs.md). Facts of the other cards were read in the sources named.
"""


def sizes_of(card: Card) -> Sizes | None:
    """The sizes of a card's model, and the work of every removal in one document; None without a class."""
    if card.model_type is None:
        return None
    from transformers import AutoConfig

    config = AutoConfig.for_model(card.model_type, dtype="bfloat16", **card.values)
    found = ma.cost(config, documents=DOCUMENTS, tokens=TOKENS, machine="h100")
    shapes, work = found.shapes, found.work
    return Sizes(
        architecture=shapes.architecture,
        parameters=shapes.parameters,
        active=shapes.active,
        layers=len(shapes.layers),
        moe_layers=len(shapes.moe),
        first_moe_layer=shapes.moe[0].index,
        experts=shapes.moe[0].num_experts,
        top_k=shapes.moe[0].top_k,
        removals=work.rows // DOCUMENTS,
        tflop=round(work.flops / DOCUMENTS / 1e12, 1),
        forwards=round(work.forwards, 1),
        h100_seconds=round(found.seconds, 1) if found.memory.fits else None,
    )


def page() -> str:
    """The page of all cards."""
    all_cards = room.cards()
    rows = [
        HEAD,
        "| model | experts, active | MoE layers | router scores | weights sum to | shared expert | parameters "
        "(published) "
        "| removals a document | TFLOP a document | 160 documents on an H100 | audited |",
        "|---|---:|---:|---|---|---|---|---:|---:|---:|---|",
    ]
    for card in all_cards:
        s = card.sizes
        of = ["-"] * 5
        if s is not None:
            time = "-" if s.h100_seconds is None else duration(s.h100_seconds)
            moe = f"{s.moe_layers} of {s.layers}"
            of = [f"{s.experts}, {s.top_k}", moe, f"{s.removals:,}", f"{s.tflop:,.1f}", time]
        rows.append(
            f"| {card.name} | {of[0]} | {of[1]} | {card.score} | {card.weights_sum} | {_shared(card)} | "
            f"{card.published} | {of[2]} | {of[3]} | {of[4]} | {AUDITS[card.audit]} |"
        )
    rows.append(
        "\nDocuments of 128 tokens, every active expert of every token removed. Times are reckoned.\n"
    )
    for card in all_cards:
        rows += [f"## {card.name}\n", *(f"- {line}" for line in told(card)), ""]
    return "\n".join(rows)


def _shared(card: Card) -> str:
    return "not known" if card.shared == "not known" else "yes" if card.shared else "no"


def told(card: Card) -> list[str]:
    """A card in lines."""
    s = card.sizes
    lines = []
    if s is not None:
        lines.append(
            f"`{card.hub}`, `{s.architecture}`: {s.parameters / 1e9:.2f} B parameters, {s.active / 1e9:.2f} B active"
        )
    elif card.hub:
        lines.append(f"`{card.hub}`; transformers has no class for it")
    lines += [f"router: {card.router}", f"shared expert: {card.shared or 'none'}"]
    lines += [f"dense layers: {card.dense}", f"can: {card.can}"]
    lines += [f"cannot: {card.cannot}"] if card.cannot else []
    return [*lines, f"source: {card.source}"]


def main() -> None:
    target = ROOT / "moeaudit" / "models" / "bundled" / "cards" / "sizes.json"
    found = {card.name: sizes_of(card) for card in room.cards()}
    told_ = {name: asdict(each) for name, each in found.items() if each is not None}
    target.write_text(json.dumps(told_, indent=1) + "\n", "utf-8")
    room._cards.cache_clear()  # noqa: SLF001
    place = ROOT / "docs" / "lab" / "cards.md"
    place.parent.mkdir(exist_ok=True)
    place.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
