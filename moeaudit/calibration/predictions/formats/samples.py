"""Samples of lm-evaluation-harness (`--log_samples`): multiple choice, by its log-likelihoods.

A line holds `doc_id`, `target`, `filtered_resps` (for each choice its log-likelihood in nats and whether it
is the greedy one) and `acc`. The confidence is the largest softmax over the choices' log-likelihoods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moeaudit.errors import InputError

from .table import Table, lines

REMARK = (
    "Read as samples of lm-evaluation-harness: the confidence is the largest softmax over the choices' "
    "log-likelihoods, correct is acc, the document is doc_id."
)


def is_samples(record: dict[str, Any]) -> bool:
    """Whether an object is a line of such a file."""
    return "doc_id" in record and "filtered_resps" in record and "confidence" not in record


def read_samples(path: Path, records: list[dict[str, Any]], numbers: list[int]) -> Table:
    """Confidence, correctness and document of every sample, beside its own keys.

    Raises InputError for samples without log-likelihoods of choices (generated text), without `acc`, and
    where `acc` is not the choice of the largest log-likelihood.
    """
    confidence, correct = np.empty(len(records)), np.empty(len(records), dtype=object)
    document = np.empty(len(records), dtype=object)
    for row, record in enumerate(records):
        line = f"{path}: line {numbers[row]:,}"
        choices = _choices(record.get("filtered_resps"), line)
        top = int(choices.argmax())
        share = np.exp(choices - choices.max())
        confidence[row] = 1 / share.sum()
        if record.get("acc") is None:
            raise InputError(
                f"{line} is a sample of lm-evaluation-harness without acc, so it is not known whether "
                "the most likely choice was right. Write a table with confidence and correct."
            )
        correct[row], document[row] = str(record["acc"]), str(record.get("doc_id"))
        target = str(record.get("target"))
        right = {"1": True, "1.0": True, "0": False, "0.0": False}.get(correct[row])
        if target.isdigit() and right is not None and (int(target) == top) != right:
            raise InputError(
                f"{line}: acc is {correct[row]}, but the choice of the largest log-likelihood is "
                f"{top} and the target {target}. acc was not computed from these numbers; write a "
                "table with confidence and correct."
            )
    names = dict.fromkeys(name for record in records for name in record)
    columns: dict[str, Any] = {}
    for name in names:
        columns[name] = np.empty(len(records), dtype=object)
        columns[name][:] = [record.get(name) for record in records]
    columns |= {"confidence": confidence, "correct": correct, "document": document}
    return Table(columns, lines(numbers), (REMARK,))


def _choices(answers: Any, line: str) -> np.ndarray:
    try:
        found = np.array([float(answer[0]) for answer in answers])
        if len(found) < 2 or not np.isfinite(found).all() or (found > 0).any():
            raise ValueError
        if any(len(answer) != 2 for answer in answers):
            raise ValueError
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError(
            f"{line} is a sample of lm-evaluation-harness whose answers are not the log-likelihoods of "
            "two choices or more (generated text has none), so it holds no confidence. Write a table with "
            "confidence and correct."
        ) from None
    return found
