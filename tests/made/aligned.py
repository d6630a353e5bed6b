"""Weights on whole cache lines: a CPU may round a product otherwise by where in a mapped file its weight lies."""

from __future__ import annotations

import moeaudit as ma

LINE = 64  # bytes; torch's own allocations begin on one, tensors of a mapped file need not


def aligned(model: ma.Model) -> ma.Model:
    """The model with every weight moved to an address that torch would have given it."""
    for parameter in model.hf.parameters():  # each once, however many modules share it
        if parameter.data_ptr() % LINE:
            parameter.data = parameter.data.clone()
    return model
