"""How an audit is analysed, as one frozen object: ours, and the published recipe it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

import numpy as np

from moeaudit.errors import InputError, one_of

from ..families.maxt import STATISTICS
from ..sizes.bounds import WITHOUT_NATS, Bound, default_bound
from ..sizes.effect_sizes import INTERVALS
from .checks import fraction


@dataclass(frozen=True)
class Defects:
    """Known defects of the code released with arXiv 2606.10703, each a switch, all off.

    The first two change which tokens are tested and act in `contrast`. The others act where tables
    are made: `defective_metrics` makes the metrics, `ablate(model, docs, Everywhere(Zero()))` the effects.
    `contrast` accepts such a switch only with a table that has the defect and says so.
    """

    own_positions_per_metric: bool = False
    """Each metric draws its own random positions, so metrics are not compared on shared tokens."""
    texts_before_positions: bool = False
    """Draw a text, then a position in it: tokens of short texts are drawn too often."""
    metrics_from_tested_documents: bool = False
    """The same documents give the metrics and the effects."""
    padding_in_metrics: bool = False
    """Padding tokens are counted in the metrics."""
    logits_as_utilisation: bool = False
    """Utilisation is the mean router logit over tokens, not how often the expert is chosen."""
    weight_over_all_tokens: bool = False
    """The mean routing weight averages logits over nearly all tokens, not where active."""
    whole_sequence_ablated: bool = False
    """The expert is removed at every position and read at one: other positions' effects mix in."""

    IN_METRICS = (
        "metrics_from_tested_documents",
        "padding_in_metrics",
        "logits_as_utilisation",
        "weight_over_all_tokens",
    )
    IN_EFFECTS = ("whole_sequence_ablated",)

    @property
    def on(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self) if getattr(self, f.name))


@dataclass(frozen=True)
class Protocol:
    """A recipe for `contrast`. Sizes are in units of d_z.

    `sesoi` is a number in d_z, or text: "0.01nats", or "50%harm" of the layer's mean outcome; None for the
    default of what is asked (`bounds.default_bound`): 0.01 nats where the outcome is in nats, else 0.1 in d_z.
    `statistic` is what the sign-flips compare (`maxt.STATISTICS`). `test` gives the p that families
    correct ("sign_flip", "cluster_t", "paired_t", "paired_t_and_wilcoxon": the larger of the two);
    `decision` the corrected p that verdicts use ("maxt" or a correction of `families.METHODS`);
    `experts` whether a verdict needs the p over experts (of `n_shuffles` shuffles) as well;
    `withhold` whether there is no verdict below the limits of `few.too_few`;
    `equivalence` the correction of the TOST p, or None for no equivalence claims.
    """

    name: str
    test: str = "sign_flip"
    decision: str = "maxt"
    statistic: str = "skew_adjusted"
    equivalence: str | None = "holm"
    alpha: float | int = 0.05
    sesoi: float | int | str | None = None
    power: float | int = 0.8
    interval: str = "adjusted"
    level: float | int = 0.95
    n_boot: int = 2000
    n_flips: int = 10_000
    n_shuffles: int = 999
    experts: bool = True
    withhold: bool = True
    n_folds: int = 5
    metrics: tuple[str, ...] | None = None
    n_layers: int | None = None
    positions: int | None = None
    seed: int | None = None
    defects: Defects = field(default_factory=Defects)

    def __post_init__(self) -> None:
        if self.sesoi is not None:
            object.__setattr__(self, "sesoi", Bound.parse(self.sesoi).plain)
        for name in ("alpha", "power", "level"):
            fraction(getattr(self, name), name)
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < least):
                raise InputError(f"{name} is {value}; it must be a whole number from {least} on.")
        one_of(self.test, TESTS, "test")
        one_of(self.decision, DECISIONS, "decision")
        one_of(self.statistic, STATISTICS, "statistic")
        one_of(self.interval, INTERVALS, "interval")
        if self.equivalence is not None:
            one_of(self.equivalence, DECISIONS[1:], "equivalence correction")

    @property
    def bound(self) -> Bound:
        """The smallest effect of interest, with its unit. Raises InputError if none is settled."""
        if self.sesoi is None:
            raise InputError(
                f"The protocol {self.name} declares no smallest effect of interest, and its default depends on "
                'the outcome. Give it one, such as sesoi="0.01nats", or use settled(outcomes).'
            )
        return Bound.parse(self.sesoi)

    def settled(self, outcomes: Iterable[str], *, averaged: bool = False) -> Protocol:
        """With the default smallest effect of interest for these outcomes, if none was declared.
        `averaged`: in a table that averages layers in d_z."""
        if self.sesoi is not None:
            return self
        return self.with_(sesoi=default_bound(outcomes, averaged=averaged).plain)

    @property
    def d_z_bound(self) -> float:
        """The bound in d_z. Raises InputError if it was declared in another unit."""
        if self.bound.unit != "d_z":
            raise InputError(
                f"The smallest effect of interest is {self.sesoi}, which is another d_z in every layer, and "
                "this table averages over layers. Give it a bound in d_z, such as sesoi=0.1."
            )
        return self.bound.value

    def with_(self, **changes: object) -> Protocol:
        """A copy with some settings changed; unknown names are refused."""
        known = {f.name for f in fields(self)}
        wrong = sorted(set(changes) - known)
        if wrong:
            raise InputError(
                f"A protocol has no setting {', '.join(wrong)}. It has {', '.join(sorted(known))}."
            )
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]


LEAST = {"n_boot": 20, "n_flips": 19, "n_shuffles": 19, "n_folds": 2, "n_layers": 1, "positions": 2}
TESTS = ("sign_flip", "cluster_t", "paired_t", "paired_t_and_wilcoxon")
DECISIONS = ("maxt", "bonferroni", "holm", "hochberg", "bh", "by")


# The published metric, and the names under which a metrics table may carry it.
PUBLISHED_METRICS = {
    "utilization_rate": ("utilization_rate", "utilisation"),
    "activation_norm": ("activation_norm",),
    "mean_routing_weight_when_active": (
        "mean_routing_weight_when_active",
        "mean_weight",
    ),
    "activation_std": ("activation_std", "activation_sd"),
}

PROTOCOLS = {
    "moeaudit": Protocol("moeaudit"),
    "engmann2026": Protocol(
        "engmann2026",
        sesoi=WITHOUT_NATS,
        test="paired_t",
        decision="bonferroni",
        equivalence=None,
        experts=False,
        withhold=False,
        interval="token",
        metrics=tuple(PUBLISHED_METRICS),
        n_layers=5,
        positions=200,
        seed=42,
    ),
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """A protocol by name, or as given."""
    if isinstance(protocol, Protocol):
        return protocol
    return PROTOCOLS[one_of(protocol, PROTOCOLS, "protocol")]


def choose_metrics(protocol: Protocol, available: list[str]) -> list[str]:
    """The metrics a protocol tests among those of a table; a published one that is absent is named."""
    if protocol.metrics is None:
        return available
    chosen: list[str] = []
    for name in protocol.metrics:
        aliases = PUBLISHED_METRICS.get(name, (name,))
        found = [a for a in aliases if a in available]
        if not found:
            raise InputError(
                f"The protocol {protocol.name} tests the metric {name}, which the metrics table "
                f"does not hold under any of the names {', '.join(aliases)}. It holds "
                f"{', '.join(available)}."
            )
        chosen.append(found[0])
    return chosen


def choose_layers(protocol: Protocol, available: list[int]) -> list[int]:
    """All layers, or the protocol's number of them spread from first to last.

    With five of 16, 24 or 26 layers these are the published ones (0, 4, 7, 11, 15 and so on);
    elsewhere evenly spaced, halves rounded down.
    """
    n = protocol.n_layers
    if n is None or len(available) <= n:
        return available
    published = {16: (0, 4, 7, 11, 15), 24: (0, 6, 12, 18, 23), 26: (0, 6, 12, 19, 25)}
    if n == 5 and len(available) in published:
        return [available[i] for i in published[len(available)]]
    places = np.ceil(np.linspace(0, len(available) - 1, n) - 0.5).astype(int)
    return [available[i] for i in places]


def choose_tokens(protocol: Protocol, document: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places (into the list of tokens, given by their document) that a protocol tests, sorted."""
    n = protocol.positions
    if n is None or n >= len(document):
        return np.arange(len(document))
    if not protocol.defects.texts_before_positions:
        return np.sort(rng.choice(len(document), size=n, replace=False))
    codes, which = np.unique(document, return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which))
    starts = np.concatenate([[0], ends[:-1]])
    text = rng.integers(len(codes), size=n)
    place = starts[text] + (rng.random(n) * (ends - starts)[text]).astype(np.int64)
    return np.unique(order[place])
