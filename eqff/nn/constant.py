"""Numbers that belong to the model and keep float64 precision when the weights are rounded."""

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A float64 constant that survives module.to(float32) bit for bit.

    A float64 buffer would be rounded by `.to(float32)`. Here the number is kept as three addends of 24 bits each, which
    float32 holds exactly; their float64 sum is the number itself, in any order. They travel with the device and the
    state dict, so coupling coefficients and reference energies are part of every file.

    Args: value: any shape, |value| in the range of float32
    """

    parts: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        rest = value.detach().to(torch.float64)
        parts = []
        for _ in range(3):
            parts.append(rest.to(torch.float32))
            rest = rest - parts[-1].to(torch.float64)
        self.register_buffer("parts", torch.stack(parts))

    def forward(self) -> Tensor:
        """The constant, float64."""
        return self.parts.to(torch.float64).sum(0)
