"""The tests of a run, as the figures and the answer need them: names, roles, one adjusted p."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame
from moeaudit.runs.analysis import NOT_TESTED
from moeaudit.runs.spec import ALPHA
from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
from moeaudit.stats.record.made import analyses
from moeaudit.stats.sizes.equivalence import NOT_ESTIMABLE, PREDICTIVE, SHOWN, UNDECIDED

from .bound import bound_words
from .numbers import layers_text

# outcome: (title, what it asks of an edit that an expert may be costly to undergo)
OUTCOMES = {
    "delta_nll": ("Harm", "signed change of the loss: which expert costs more {cost}?"),
    "kl": ("Disturbance", "KL of the prediction: which expert moves it more?"),
    "abs_delta_nll": ("Size of the loss change", "unsigned change of the loss"),
    "flip": ("Top prediction changed", "how often the most likely token changes"),
    "delta_entropy": ("Entropy", "signed change of the prediction's entropy"),
    "delta_confidence": ("Confidence", "signed change of the largest probability"),
    "delta_brier": ("Brier score", "signed change of the squared error"),
}
ROLES = {"metric": "metric", "control": "control"}

# metric: (name, what it is); any other metric is shown under its own name
_NAMES = {
    "utilisation": ("utilisation", "share of tokens"),
    "mean_weight": ("mean weight", "when active"),
    "weighted_frequency": ("weighted frequency", "sum of weights"),
    "activation_norm_mean": ("activation norm", "mean of ||E(x)||"),
    "activation_norm": ("activation norm", "mean of ||E(x)||"),
    "activation_norm_sd": ("activation norm, sd", "spread of ||E(x)||"),
    "activation_sd": ("activation norm, sd", "spread of ||E(x)||"),
    "activation_std": ("activation norm, sd", "spread of ||E(x)||"),
    "ean": ("EAN", "sum of ||E(x)||"),
    "reap": ("REAP", "mean of w ||E(x)||"),
    "man": ("MAN", "mean of ||E(x)||"),
    "msan": ("MSAN", "mean of ||E(x)||^2"),
    "easy_ep": ("EASY-EP", "weight, norm and turn"),
    "domain_mi": ("domain specialisation", "information on domain"),
    "domain_specialisation": ("domain specialisation", "information on domain"),
    "vocabulary_specialisation": ("vocabulary specialisation", "information on token"),
    "random": ("random pair", "negative control"),
    "random_score": ("random score", "one number an expert"),
    "gate_weight": ("gate weight", "of the token itself"),
    "heldout_causal": ("held-out effect", "other documents' mean"),
}


def outcome_name(outcome: str) -> str:
    """What an outcome is called; one that is not known here keeps its own name."""
    return OUTCOMES[outcome][0] if outcome in OUTCOMES else outcome.replace("_", " ")


def outcome_words(outcome: str, cost: str = "to lose") -> tuple[str, str]:
    """Its name, and what it asks about an expert; `cost` as in `OperatorWords`."""
    asks = OUTCOMES[outcome][1] if outcome in OUTCOMES else ""
    return outcome_name(outcome), asks.format(cost=cost)


def metric_name(metric: str) -> tuple[str, str]:
    """A short name and what it is, for labels."""
    return _NAMES.get(metric, (metric.replace("_", " "), ""))


@dataclass(frozen=True)
class Evidence:
    """`contrasts`: one row per (metric or control, layer, outcome), NaN where not estimable.

    `harm`: one row per (metric, layer): the rank correlation across experts of the metric with the
    expert's mean effect; empty if the run has none. `untested`: why nothing was tested, by
    outcome; then the other two are empty. `declared` is the smallest effect of interest as it was
    declared ("0.1", "0.01nats"), empty if the tests do not say; `alpha` the error rate of a family
    that they were made with.
    """

    contrasts: Frame
    harm: Frame
    untested: dict[str, str] = field(default_factory=dict)
    declared: str = ""
    alpha: float = ALPHA

    @property
    def outcomes(self) -> list[str]:
        """The outcomes that were tested, in the order of the run."""
        return [str(o) for o in dict.fromkeys(self.contrasts.get("outcome", []))]

    def reasons(self) -> list[str]:
        """Which metrics could not be estimated and why, one clause a metric and reason."""
        out: dict[tuple[str, str], dict[int, None]] = {}
        for frame in (self.contrasts, self.harm):
            if frame.empty:
                continue
            rows = frame[(frame["verdict"] == NOT_ESTIMABLE) & (frame["role"] == "metric")]
            for row in rows.itertuples():
                why = str(row.reason or "no number can be given")
                why = why.removeprefix("not estimable, because ")
                out.setdefault((str(row.metric), why), {})[int(row.layer)] = None
        return [
            f"{metric_name(metric)[0]} ({'layer' if len(where) == 1 else 'layers'} "
            f"{layers_text(list(where))}), because {why}"
            for (metric, why), where in out.items()
        ]

    def count(self, outcome: str, verdict: str | None = None) -> int:
        """Metric contrasts of an outcome, or those with a verdict."""
        rows = self.metrics(outcome)
        return len(rows) if verdict is None else int((rows["verdict"] == verdict).sum())

    def undecided(self, outcome: str) -> int:
        """Metric contrasts of which nothing is shown, for want of documents or of experts."""
        return int(self.metrics(outcome)["verdict"].isin(UNDECIDED).sum())

    @property
    def bound(self) -> str:
        """The smallest effect of interest in words, as it was declared."""
        if self.declared:
            return bound_words(self.declared)
        known = self.contrasts["sesoi"].dropna().unique() if "sesoi" in self.contrasts else []
        return bound_words(float(known[0])) if len(known) == 1 else "the size of interest"

    def present(self, outcome: str) -> int:
        """Metric contrasts that are not zero and would not come from luck over experts, of any size."""
        return int(self.metrics(outcome)["verdict"].isin(SHOWN).sum())

    def by_luck(self, outcome: str) -> int:
        """Undecided metric contrasts that documents decide for these experts, to be or to be small: luck over so
        few experts could have made them."""
        rows = self.metrics(outcome)
        if "verdict_these_experts" not in rows:
            return 0
        open_, alone = rows["verdict"].isin(UNDECIDED), rows["verdict_these_experts"]
        return int((open_ & ~alone.isin(UNDECIDED)).sum())

    def cautions(self) -> list[str]:
        """What the statistics warn of, each once, with the number of cells it concerns."""
        out: list[str] = []
        for frame in (self.contrasts, self.harm):
            if "caution" in frame:
                for text, cells in frame["caution"].dropna().value_counts().items():
                    out.append(f"{text} ({cells} of {len(frame)} cells)")
        return out

    def metrics(self, outcome: str) -> Frame:
        """The metric contrasts of one outcome."""
        c = self.contrasts
        return c[(c["outcome"] == outcome) & (c["role"] == "metric")]

    def control(self, outcome: str, name: str) -> Frame:
        """One control of one outcome, a row a layer."""
        c = self.contrasts
        return c[(c["outcome"] == outcome) & (c["metric"] == name)]

    def strongest(self, outcome: str, verdict: str | None = PREDICTIVE) -> Series | None:
        """The metric contrast with the largest |d_z| among those with a verdict (any if None)."""
        rows = self.metrics(outcome)
        rows = rows[rows["d_z"].notna()]
        if verdict is not None:
            rows = rows[rows["verdict"] == verdict]
        return None if rows.empty else rows.loc[rows["d_z"].abs().idxmax()]


_RENAMED = {
    "n_documents": "documents",
    "d_z_low": "low",
    "d_z_high": "high",
    "rho_low": "low",
    "rho_high": "high",
    "p_maxt": "p_adjusted",
}
_EXPERTS = ["p_experts", "p_experts_maxt", "null_low", "null_high", "of_oracle"]
_ROBUST = [
    *("winsorised_d_z", "winsorised_d_z_low", "winsorised_d_z_high"),
    *("rank_biserial", "rank_biserial_low", "rank_biserial_high", "top_share"),
]
_NUMBERS = ["low", "high", "p", "p_adjusted", "sesoi"]
_NUMBERS += ["largest_held_out", "metric_largest_held_out"]
_CEILING = ["ceiling", "ceiling_low", "ceiling_high"]
_EMPTY = ["outcome", "metric", "role", "layer", "verdict", "reason", "d_z", "rho"]


def read(tests: Frame) -> Evidence:
    """The evidence in a run's tests table."""
    skipped = tests["verdict"] == NOT_TESTED
    untested = tests[skipped].drop_duplicates("outcome")
    if len(untested):
        why = {str(o): str(r) for o, r in zip(untested["outcome"], untested["reason"])}
        return Evidence(pd.DataFrame(columns=_EMPTY), pd.DataFrame(columns=_EMPTY), why)
    within = tests["question"] == WITHIN
    return Evidence(
        _plain(tests[within], [*_NUMBERS, "d_z", "mde", *_EXPERTS, *_ROBUST]),
        _plain(tests[~within], [*_NUMBERS, "rho", "reliability", *_CEILING]),
        declared=str(_declared(tests, "sesoi") or ""),
        alpha=float(_declared(tests, "alpha") or ALPHA),
    )


def _declared(tests: Frame, name: str) -> Any:
    """A setting that the contrasts were made with, as the table itself says; None if it does not."""
    said = {
        made["protocol"][name]
        for (question, _), made in analyses(tests).items()
        if question == WITHIN
    }
    return said.pop() if len(said) == 1 else None


def _plain(frame: Frame, numbers: list[str]) -> Frame:
    """Renamed, with nullable columns as plain floats where NaN is what could not be estimated."""
    if frame.empty:
        return pd.DataFrame(columns=_EMPTY)
    renamed = {k: v for k, v in _RENAMED.items() if k in frame and frame[k].notna().any()}
    frame = frame.copy(deep=False)
    frame.attrs = {}  # pandas copies them, all the way down, for every column that is read
    out = frame.dropna(axis="columns", how="all").rename(columns=renamed).reset_index(drop=True)
    for name in numbers:
        values = out[name].astype("Float64") if name in out else pd.Series(pd.NA, index=out.index)
        out[name] = values.astype("Float64").to_numpy(dtype="float64", na_value=float("nan"))
    for name in ("verdict", "reason"):
        values = out[name] if name in out else pd.Series(None, index=out.index, dtype=object)
        out[name] = values.astype(object).where(values.notna(), None)
    for name in ("layer", "n", "documents"):
        out[name] = out[name].astype("int64")
    return out
