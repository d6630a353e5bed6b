"""Plans: an audit settled before it is run, amended in the open, and held against what was run."""

from .frozen import Plan as Plan
from .held import check_plan as check_plan
from .pilot import documents_needed as documents_needed

__all__ = ["Plan", "check_plan", "documents_needed"]
