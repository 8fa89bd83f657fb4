"""Bias-free multi-layer perceptron on scalars: MLP(0) = 0, so an envelope in the input reaches the output."""

import math
from itertools import pairwise
from typing import Sequence

import torch
from torch import Tensor, nn

from eqff.nn.activation import SILU_MOMENT


class ScalarMLP(nn.Module):
    """x -> W_k a(... a(W_1 x)), weights of unit variance scaled by gain / sqrt(fan_in), SiLU between layers.

    Args:
        widths: n_in, hidden widths ..., n_out
        normalized: True as published (SiLU with unit second moment, gain 1); False as in NequIP >= 0.7 (plain SiLU,
            gain sqrt(2) behind it)
        generator: for the weights, uniform in (-sqrt(3), sqrt(3))
    """

    def __init__(self, widths: Sequence[int], normalized: bool, generator: torch.Generator) -> None:
        super().__init__()
        bound = math.sqrt(3.0)
        gain = SILU_MOMENT if normalized else math.sqrt(2.0)  # of everything behind an activation
        self.weights = nn.ParameterList()
        self.scales = []
        for k, (n_in, n_out) in enumerate(pairwise(widths)):
            self.weights.append(nn.Parameter(torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator)))
            self.scales.append((gain if k > 0 else 1.0) / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        """[n, n_in] -> [n, n_out]."""
        for k, weight in enumerate(self.weights):
            if k > 0:
                x = torch.nn.functional.silu(x)
            x = torch.mm(x, weight * self.scales[k])
        return x
