"""The card of a trained model, from measured numbers alone: `card.json` for programs, `card.md` for readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moeaudit.store.files import write_json, write_text

from ..recipes.whole import Recipe
from ..training.text import texts_of
from .folder import CARD, loaded, record_of
from .held_out import drawn, read_held_out


def write_card(folder: Path, recipe: Recipe, device: str = "cpu") -> dict[str, Any]:
    """Measure the model in `folder` on held-out text, and write `card.json` and `card.md` beside it."""
    record, model = record_of(folder), loaded(folder, recipe, device)
    texts = texts_of(recipe.text)
    held = drawn(texts.held_out, recipe.text.held_out)
    found = read_held_out(model, held, recipe.model.context)
    card = {
        "name": recipe.name,
        "hash": recipe.hash,
        "class": type(model).__name__,
        "parameters": parameters(model),
        "tokens": recipe.train.tokens,
        "steps": recipe.train.steps,
        "seconds": record["seconds"],
        "device": record["device"],
        "text": {"what": texts.what, "sha256": texts.digest},
        "nll": found.nll,
        "domains": found.domains,
        "layers": found.layers,
    }
    write_text(folder / "card.md", said(card, recipe))
    write_json(folder / CARD, card)  # last: it says that the folder is finished
    return card


def parameters(model: Any) -> dict[str, int]:
    """`total`: every site counted; `unique`: shared tensors once; `active`: what one token uses of the total."""
    config = model.config
    sites = dict(model.named_parameters(remove_duplicate=False))
    total = sum(p.numel() for p in sites.values())
    experts = getattr(config, "num_experts", None)
    idle = 0.0
    if experts:
        routed = sum(p.numel() for name, p in sites.items() if ".experts." in name)
        idle = routed * (1 - config.num_experts_per_tok / experts)
    return {
        "total": total,
        "active": total - round(idle),
        "unique": sum(p.numel() for p in model.parameters()),
    }


def said(card: dict[str, Any], recipe: Recipe) -> str:
    """The card in Markdown."""
    numbers = card["parameters"]
    rows = [
        f"| {r['domain']} | {r['documents']} | {r['tokens']:,} | {r['nll']:.3f} | {_fixed(r['se'])} |"
        for r in card["domains"]
    ]
    lines = [
        f"# {card['name']}",
        "",
        f"A `{card['class']}` with {numbers['total']:,} parameters ({numbers['unique']:,} unique, "
        f"{numbers['active']:,} active a token), trained by moeaudit's lab on {card['tokens']:,} tokens of "
        f"{card['text']['what']} in {card['steps']:,} steps and {card['seconds']:.0f} seconds on {card['device']}, "
        f"seed {recipe.train.seed}. A model this small tests a mechanism or an instrument; it is no evidence about "
        "large ones.",
        "",
        f"Held-out loss, mean of the domains: **{card['nll']:.4f}** nats a token.",
        "",
        "| domain | documents | tokens | nats a token | standard error |",
        "|---|---:|---:|---:|---:|",
        *rows,
    ]
    if card["layers"]:
        lines += [
            "",
            "Routing on the same text. Entropy is a token's, in nats; balance is N sum f P, 1 where even; load is an "
            "expert's share of slots times the number of experts.",
            "",
            "| layer | experts | entropy | balance | least load | greatest load | effective experts |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {r['layer']} | {r['experts']} | {r['entropy']:.3f} | {r['balance']:.3f} | {r['least_load']:.2f} | "
            f"{r['greatest_load']:.2f} | {r['effective_experts']:.1f} |"
            for r in card["layers"]
        ]
    lines += [
        "",
        f"Recipe `{card['hash'][:12]}`; text SHA-256 `{card['text']['sha256'][:16]}`.",
        "",
    ]
    return "\n".join(lines)


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
