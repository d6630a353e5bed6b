"""What is trained: a recipe from a TOML file or by name, checked, frozen and hashed."""

from .arms import ARMS as ARMS
from .arms import Arm as Arm
from .arms import recipe as recipe
from .whole import Recipe as Recipe
