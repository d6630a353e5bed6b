"""The card of a pruned checkpoint: from what, which experts, chosen how, and what it cost where it was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeaudit.version import __version__


def card(facts: Mapping[str, Any], license_of: str | None = None) -> str:
    """README.md from the facts of `moeaudit_pruned.json`."""
    before, after = facts["experts_before"], facts["experts_after"]
    parts = [
        _head(facts, license_of),
        f"# {_plain(facts['source'])} with {after} of {before} experts",
        f"Written by moeaudit {__version__} from `{_plain(facts['source'])}`: {after} of {before} experts of each "
        "of its MoE layers stay, with their rows of the router; everything else is as it was. The weights were "
        "not trained further.",
        *_chosen(facts["chosen"]),
        "## Experts that stay",
        "Expert number *i* of this checkpoint is the *i*-th of the list, counted from 0.",
        _table(
            ["layer", "experts of the source"],
            [(layer, ", ".join(map(str, mine))) for layer, mine in facts["kept"].items()],
        ),
        "## How it was checked",
        f"The folder was read again, and its logits equal those of the source with the other experts banned, to "
        f"{facts['largest_logit_difference']:.1e} (computed in {facts['computed_in']}). Weights are stored as "
        f"{_stored(facts['stored_bytes'])}.",
        f"SHA-256 of the source's tensors: `{facts['source_weights_sha256'] or 'not known'}`. All of this is "
        "machine-readable in `moeaudit_pruned.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def license_in(folder: Path | None) -> str | None:
    """The license that the source's own card names, if it has one."""
    try:
        text = "" if folder is None else (folder / "README.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not text.startswith("---"):
        return None
    found = re.search(r"^license:[ \t]*([\w.+-]+)[ \t]*$", text.split("---")[1], re.MULTILINE)
    return found.group(1) if found else None


def _head(facts: Mapping[str, Any], license_of: str | None) -> str:
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if str(facts["source_place"]).startswith("hub:"):
        lines.append(f"base_model: {facts['source_place'].removeprefix('hub:')}")
    if license_of is not None:
        lines.append(f"license: {license_of}")
    return "\n".join(
        ["---", *lines, "tags:", "- mixture-of-experts", "- pruned", "- moeaudit", "---"]
    )


def _chosen(chosen: Mapping[str, Any] | None) -> list[str]:
    if chosen is None:
        return [
            "## How they were chosen",
            "The experts were named by hand, so nothing is known here of what their loss costs. "
            "`moeaudit.prune_curve` measures it.",
        ]
    percent = f"{chosen['level']:.0%}"
    where = {"all": "", "early": " of the first third of the MoE layers"}
    where |= {"middle": " of the middle third of the MoE layers"}
    where |= {"late": " of the last third of the MoE layers"}
    share = f"{chosen['keep']:.4g} of the experts{where[chosen['depth']]}"
    how = "in each layer" if chosen["scope"] == "layer" else "ranked over all layers"
    by = (
        f"at random (draw {chosen['draw']}, seed {chosen['seed']})"
        if chosen["criterion"] == "random"
        else f"by the criterion `{_plain(chosen['criterion'])}`, highest scores first"
    )
    rows = [
        ("whole model", _number(chosen["whole"]["nll"]), _number(chosen["whole"]["ppl"], 3), "", ""),
        ("this checkpoint", _number(chosen["pruned"]["nll"]), _number(chosen["pruned"]["ppl"], 3),
         _limits(chosen["pruned"], "d_nll", ""), _limits(chosen["pruned"], "kl", "kl_")),
    ]  # fmt: skip
    luck = chosen["random"]
    if luck is not None:
        band = f"{luck['mean']:+.4f} [{luck['low']:+.4f}, {luck['high']:+.4f}]"
        rows.append((f"{luck['draws']} random choices of as many", "", "", band, ""))
    head = ["", "loss, nats a token", "perplexity", f"loss added, nats a token [{percent}]",
            f"KL from the whole model, nats a token [{percent}]"]  # fmt: skip
    note = f"Brackets hold {percent} limits by documents"
    note += f"; those of random choices the middle {percent} of the draws." if luck else "."
    return [
        "## How they were chosen",
        f"{share} stay, {how}, chosen {by}. Scores were computed on {_text(chosen['calibration'])}.",
        "## What it costs",
        f"Measured on {_text(chosen['evaluated'])}, which had no part in the choice:",
        _table(head, rows),
        f"{note} They speak of text like this; other text and other abilities were not measured.",
    ]


def _text(about: Mapping[str, Any]) -> str:
    domains = [name for name in about["domains"] if name]
    of = f", domains {', '.join(map(_plain, domains))}" if domains else ""
    return (
        f"{about['documents']:,} documents ({about['tokens']:,} tokens{of}; SHA-256 of their tokens "
        f"`{about['sha256'][:16]}`)"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _limits(of: Mapping[str, Any], name: str, prefix: str) -> str:
    low, high = of[f"{prefix}low"], of[f"{prefix}high"]
    return f"{of[name]:+.4f} [{low:+.4f}, {high:+.4f}]"


def _number(value: float, decimals: int = 4) -> str:
    return f"{value:.{decimals}f}"


def _stored(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} ({size / 1e6:,.1f} MB)" for kind, size in sizes.items())


def _plain(words: object) -> str:
    """Words of others' making, without what Markdown would take for its own."""
    return re.sub(r"[`|<>\[\]\n\r]", " ", str(words)).strip()
