"""Models broken on purpose: every fault names checks that must go red, or the exam would not be worth much.

`python -m tests.conformance.faults` prints the table: for every fault and family, how many checks notice it.
"""

from . import cutoff, gradients, reach, rotations
from .planting import FAULTS, Fault, noticed, planted

__all__ = ["FAULTS", "Fault", "cutoff", "gradients", "noticed", "planted", "reach", "rotations"]
