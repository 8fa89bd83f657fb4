"""Gaussian radial basis."""

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.constant import Constant


class GaussianBasis(nn.Module):
    r"""B_k(r) = exp(-(r - mu_k)^2 / (2 (w d)^2)),  mu_k equally spaced by d from 0 to r_max.  It has no cut-off.

    Args: r_max Å; n_basis; width w in units of the spacing
    """

    def __init__(self, r_max: float, n_basis: int, width: float) -> None:
        super().__init__()
        if r_max <= 0.0 or n_basis < 2 or width <= 0.0:
            raise ConfigError(
                "EQ1087",
                f"r_max={r_max} Å, n_basis={n_basis}, width={width}: expected > 0, >= 2, > 0; "
                "correct the value that is out of range",
            )
        self.r_max = r_max
        self.means = Constant(torch.linspace(0.0, r_max, n_basis, dtype=torch.float64))
        self.exponent = -0.5 / (width * r_max / (n_basis - 1)) ** 2

    def forward(self, edge_length: Tensor) -> Tensor:
        """Edge_length [n_edges, 1] Å, float64 -> [n_edges, n_basis] float64."""
        return torch.exp(self.exponent * (edge_length - self.means()).square())
