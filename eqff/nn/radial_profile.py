"""Radial network with layer norms, and the exponential basis that is its input, both as in Equiformer."""

import math
from itertools import pairwise
from typing import Sequence

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.activation import SILU_MOMENT
from eqff.nn.constant import Constant


class ExponentialBasis(nn.Module):
    r"""B_k(r) = f(r) exp(-beta (exp(-5 r / r_max) - mu_k)^2),  f(r) = (cos(pi r / r_max) + 1) / 2 up to r_max, then 0.

    mu_k: n_basis numbers from exp(-r_max / Å) to 1; beta = (2 (1 - exp(-r_max / Å)) / n_basis)^(-2): narrow where atoms
    are close. Only once differentiable at r_max: what is computed from it must pass through an envelope.

    Args: r_max Å; n_basis
    Source: Unke and Meuwly, PhysNet (2019), eq. 7, in the form of TorchMD-NET
    """

    def __init__(self, r_max: float, n_basis: int) -> None:
        super().__init__()
        if r_max <= 0.0 or n_basis < 2:
            raise ConfigError(
                "EQ1077",
                f"r_max={r_max} Å, n_basis={n_basis}: expected > 0, >= 2; correct the value that is out of range",
            )
        self.r_max = r_max
        start = math.exp(-r_max)
        self.means = Constant(torch.linspace(start, 1.0, n_basis, dtype=torch.float64))
        self.beta = (2.0 / n_basis * (1.0 - start)) ** -2

    def forward(self, edge_length: Tensor) -> Tensor:
        """Edge_length [n_edges, 1] Å, float64 -> [n_edges, n_basis] float64, exactly 0 for r >= r_max."""
        x = edge_length / self.r_max
        cutoff = torch.where(x < 1.0, 0.5 * (torch.cos(math.pi * x) + 1.0), torch.zeros_like(x))
        return cutoff * torch.exp(-self.beta * (torch.exp(-5.0 * x) - self.means()).square())


class RadialProfile(nn.Module):
    """x -> W_k a(... a(W_1 x + b_1)) + offset,  a = SiLU of layer norm; weights of unit variance over sqrt(fan_in).

    Args:
        widths: n_in, hidden widths ..., n_out
        generator: for the weights, uniform in (-sqrt(3), sqrt(3)), and the offset
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        bound = math.sqrt(3.0)
        self.weights = nn.ParameterList()
        self.biases, self.norm_weights, self.norm_biases = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.scales = []
        for k, (n_in, n_out) in enumerate(pairwise(widths)):
            self.weights.append(nn.Parameter(torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator)))
            self.scales.append((SILU_MOMENT if k > 0 else 1.0) / math.sqrt(n_in))
        for n_hidden in widths[1:-1]:
            self.biases.append(nn.Parameter(torch.zeros(n_hidden)))
            self.norm_weights.append(nn.Parameter(torch.ones(n_hidden)))
            self.norm_biases.append(nn.Parameter(torch.zeros(n_hidden)))
        near = 1.0 / math.sqrt(widths[-2])
        self.offset = nn.Parameter(torch.empty(widths[-1]).uniform_(-near, near, generator=generator))
        self.n_hidden = len(widths) - 2

    def forward(self, x: Tensor) -> Tensor:
        """[n, n_in] -> [n, n_out]."""
        hidden = [weight for weight in self.weights]  # noqa: C416 (TorchScript knows no list() of parameters)
        for k, (bias, weight, shift) in enumerate(zip(self.biases, self.norm_weights, self.norm_biases)):  # noqa: B905
            x = torch.addmm(bias, x, hidden[k] * self.scales[k])
            x = torch.nn.functional.silu(torch.nn.functional.layer_norm(x, x.shape[1:], weight, shift))
        return torch.addmm(self.offset, x, hidden[self.n_hidden] * self.scales[self.n_hidden])
