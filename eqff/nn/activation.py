"""Activation functions with the second moment normalised to 1 for standard normal input.

The constants are e3nn's Monte-Carlo estimates (normalize2mom, 10^6 samples), so that weights carry over.
"""

import torch
from torch import Tensor

SILU_MOMENT = 1.6791767923989418
TANH_MOMENT = 1.5937334472592695


def normalized_silu(x: Tensor, moment: float = SILU_MOMENT) -> Tensor:  # TorchScript reads no module-level numbers
    """1.679 x sigmoid(x): for even scalars and gates."""
    return torch.nn.functional.silu(x) * moment


def normalized_tanh(x: Tensor, moment: float = TANH_MOMENT) -> Tensor:
    """1.594 tanh(x): an odd function, so that odd scalars stay odd."""
    return torch.tanh(x) * moment
