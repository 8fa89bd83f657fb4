"""Activation functions with the second moment normalised to 1 for standard normal input.

The constants are e3nn's Monte-Carlo estimates (normalize2mom, 10^6 samples), so that weights carry over.
"""

import torch
from torch import Tensor

SILU_MOMENT = 1.6791767923989418
TANH_MOMENT = 1.5937334472592695
SIGMOID_MOMENT = 1.8467055342154763
LEAKY_MOMENT = 1.531320475574866  # of smooth_leaky_relu


def normalized_silu(x: Tensor, moment: float = SILU_MOMENT) -> Tensor:  # TorchScript reads no module-level numbers
    """1.679 x sigmoid(x): for even scalars and gates."""
    return torch.nn.functional.silu(x) * moment


def normalized_tanh(x: Tensor, moment: float = TANH_MOMENT) -> Tensor:
    """1.594 tanh(x): an odd function, so that odd scalars stay odd."""
    return torch.tanh(x) * moment


def normalized_sigmoid(x: Tensor, moment: float = SIGMOID_MOMENT) -> Tensor:
    """1.847 sigmoid(x): for gates."""
    return torch.sigmoid(x) * moment


def normalized_leaky_relu(x: Tensor, moment: float = LEAKY_MOMENT) -> Tensor:
    """1.531 x (0.2 + 0.8 sigmoid(x)): a leaky ReLU of slopes 0.2 and 1 without a kink, for attention scores."""
    return (0.2 + 0.8 * torch.sigmoid(x)) * x * moment
