"""What runs are called beside each other: by what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

from moeaudit.runs.run import StoredRun


def named(runs: Sequence[StoredRun]) -> list[str]:
    """A name for each run: what differs among models, operators, weights, kinds of number and samples; where nothing
    does, or too little, the folder."""
    parts = [
        [run.spec.model for run in runs],
        [str(run.question) for run in runs],
        [f"weights {run.spec.weights[:8]}" for run in runs],
        [run.spec.dtype for run in runs],
        [f"{run.spec.effect_documents} documents" for run in runs],
    ]
    telling = [words for words in parts if len(set(words)) > 1]
    if len(set(parts[0])) > 1:  # other models have other weights: their names say it
        telling = [words for words in telling if words is not parts[2]]
    names = [", ".join(words) for words in zip(*telling)] if telling else [""] * len(runs)
    if len(set(names)) == len(runs):
        return names
    return [
        ", ".join(word for word in (name, str(run.folder)) if word)
        for name, run in zip(names, runs)
    ]
