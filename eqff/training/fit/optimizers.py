"""The optimiser of a configuration."""

from collections.abc import Iterable

import torch

from eqff.training.config import TrainingConfig
from eqff.training.fit.soap import Soap


def make_optimizer(parameters: Iterable[torch.Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with amsgrad, or SOAP, at config.learning_rate."""
    if config.optimizer == "soap":
        return Soap(parameters, lr=config.learning_rate)
    return torch.optim.Adam(parameters, lr=config.learning_rate, amsgrad=True, fused=True)
