"""Named recipes at one small size: the arms that the analyses of the lab compare.

All read the same tokens in the same order for a seed. Arms of the OLMoE family differ from `olmoe` in what their
sentence says and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moeaudit.errors import one_of

from ..training.mechanism import available
from .whole import Recipe


@dataclass(frozen=True)
class Arm:
    """A named recipe: what it is in a sentence, and what it changes from the default."""

    says: str
    changes: Mapping[str, Any]

    @property
    def lacks(self) -> str | None:
        """The mechanism that this version does not have, or None where the arm can be trained."""
        asked = self.changes.get("mechanisms", {})
        return next((name for name in asked if not available(name)), None)


def _tied(**more: Any) -> dict[str, Any]:
    return {"mechanisms": {"tying": {"group": 2, **more}}}


ARMS: dict[str, Arm] = {
    "olmoe": Arm("16 experts, two a token; balance over the whole step", {}),
    "olmoe-micro": Arm("balance within groups of rows of one domain", {"scope": "micro"}),
    "olmoe-sequence": Arm("balance within each row", {"scope": "sequence"}),
    "olmoe-shuffled": Arm(
        "balance within groups of the same size, tokens dealt at random",
        {"scope": "micro", "shuffled": True},
    ),
    "olmoe-none": Arm("no balance loss", {"scope": "none"}),
    "olmoe-half": Arm("half the experts in every layer", {"experts": 8}),
    "olmoe-tied": Arm("experts of layers 1-2 and 3-4 shared", _tied()),
    "olmoe-tied-sqrt": Arm(
        "the same, the rate of shared experts divided by the root of two",
        _tied(rate_of_shared="sqrt"),
    ),
    "olmoe-tied-wide": Arm(
        "24 experts, those of layers 1-2 and 3-4 shared: as many unique experts as olmoe",
        {"experts": 24, **_tied()},
    ),
    "olmoe-emo": Arm("each document routed within a pool of its own", {"mechanisms": {"emo": {}}}),
    "olmoe-tilted": Arm(
        "after 40 % of the steps each token's loss weighed by the exponential of twice itself",
        {"mechanisms": {"tilted": {}}},
    ),
    "olmoe-tilted-weak": Arm(
        "the same by the exponential of a quarter of itself",
        {"mechanisms": {"tilted": {"strength": 0.25}}},
    ),
    "olmoe-fine": Arm(
        "32 experts of half the width, four a token", {"experts": 32, "top_k": 4, "width": 24}
    ),
    "olmoe-coarse": Arm(
        "8 experts of twice the width, one a token", {"experts": 8, "top_k": 1, "width": 96}
    ),
    "qwen2-moe": Arm(
        "Qwen2-MoE: beside the routed a gated shared expert of the active width",
        {"family": "qwen2-moe", "shared_width": 96},
    ),
    "deepseek-v2": Arm(
        "DeepSeek-V2: latent attention, a dense first layer, one shared expert",
        {"family": "deepseek-v2", "shared_width": 48, "dense_layers": 1, "dense_width": 144},
    ),
    "dense": Arm("a Llama as wide as the active experts", {"family": "llama"}),
}

# What --quick changes: the machinery in seconds, of which no number means anything.
QUICK: dict[str, Any] = {
    "hidden": 32,
    "heads": 2,
    "context": 64,
    "length": 64,
    "steps": 12,
    "warmup": 2,
    "held_out": 2,
}


def recipe(name: str, /, *, quick: bool = False, **changes: Any) -> Recipe:
    """The recipe of an arm, with `changes` as `Recipe.changed` takes them (`seed=1`, `train={"steps": 20}`).

    `quick` makes it small and short: a run of the machinery, no result. Raises InputError for an arm that does not
    exist or needs a mechanism that this version does not have, and for changes that do not fit.
    """
    arm = ARMS[one_of(name, ARMS, "arm")]
    small = QUICK if quick else {}
    return Recipe().changed(name=name, **small, **arm.changes).changed(**changes)
