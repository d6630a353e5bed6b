"""The clean pass: what the model predicts, where it routes, and what that says of its experts."""

from .capture import capture as capture
from .capture import capture_documents as capture_documents
from .trace import Facts as Facts
from .trace import Trace as Trace
