"""Batch mates: does what a model says of one text change with the texts beside it in the batch?"""

from .mates import batch_mates as batch_mates
from .result import BatchMates as BatchMates

__all__ = ["BatchMates", "batch_mates"]
