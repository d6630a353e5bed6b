"""Where a model's numbers are, and in which kind: device, dtype, and weights kept elsewhere."""

from .device import input_device as input_device
from .device import moved as moved
from .device import require_device as require_device
from .device import require_dtype as require_dtype
from .elsewhere import follow as follow
from .elsewhere import require_in_memory as require_in_memory
from .elsewhere import weights_elsewhere as weights_elsewhere
from .elsewhere import weights_here as weights_here
