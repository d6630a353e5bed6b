"""The errors a user can meet. Each message says what was wrong, what was expected, what to do."""

from __future__ import annotations


class MoeAuditError(Exception):
    """Base class; the command line prints its message as one paragraph and exits with status 2."""


class InputError(MoeAuditError, ValueError):
    """The caller's input (text, option, table) cannot be used as it is."""


class ModelError(MoeAuditError, ValueError):
    """The model cannot be loaded, or is not one this package can audit."""


class ContractError(ModelError):
    """A MoE whose router contract does not hold; names the layer, the class and what is missing."""


class RunError(MoeAuditError):
    """A run folder cannot be used: it holds another run, or is damaged."""


class OutOfMemory(MoeAuditError):
    """Memory ran out. Never a verdict about a model, and no RuntimeError, so that none is made of it."""
