"""What a census costs, before the run: rows, operations, memory, time, and documents needed."""

from .cost import cost as cost
from .estimate import Cost as Cost
from .machine import STATED as STATED
from .machine import Machine as Machine

__all__ = ["STATED", "Cost", "Machine", "cost"]
