"""Radial functions: cut-off envelope and Bessel basis."""

import math

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError


def polynomial_envelope(x: Tensor, p: int) -> Tensor:
    r"""Smooth cut-off: 1 at x = 0; value and first two derivatives 0 at x = 1.

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2),  x = r / r_max

    Args:    x >= 0, any shape; p >= 3 (6 in NequIP)
    Returns: same shape, exactly 0 for x >= 1
    Source:  Gasteiger et al., DimeNet (2020), eq. 8
    """
    power = x.pow(p)
    value = 1.0 - (p + 1.0) * (p + 2.0) / 2.0 * power + p * (p + 2.0) * power * x - p * (p + 1.0) / 2.0 * power * x * x
    return torch.where(x < 1.0, value, torch.zeros_like(value))


def xplor_envelope(x: Tensor, x_on: float) -> Tensor:
    r"""Cut-off that leaves short distances alone: 1 up to x_on; value and slope 0 at x = 1.

    u(x) = (1 - x^2)^2 (1 + 2 x^2 - 3 x_on^2) / (1 - x_on^2)^3,  x = r / r_max > x_on = r_on / r_max

    The slope is continuous; the second derivative jumps at x_on and at 1.

    Args:    x >= 0, any shape; 0 < x_on < 1
    Returns: same shape, exactly 0 for x >= 1
    Source:  Brooks et al., CHARMM, J. Comput. Chem. 4, 187 (1983), eq. 11; "XPLOR" in HOOMD-blue and SevenNet
    """
    square, on = x * x, x_on * x_on
    rest = 1.0 - square
    value = rest * rest * (1.0 + 2.0 * square - 3.0 * on) / (1.0 - on) ** 3
    value = torch.where(x < x_on, torch.ones_like(value), value)
    return torch.where(x < 1.0, value, torch.zeros_like(value))


class BesselBasis(nn.Module):
    r"""B_n(r) = (2 / r_max) sin(w_n r / r_max) / r * u(r / r_max),  w_n = n pi at the start.

    Evaluated in float64 and returned in float64: sin(w x) / r loses digits near r_max in float32.

    Args: r_max Å; n_bessel; envelope_power p of `polynomial_envelope`; trainable: learn w_n; r_on Å: if > 0, where
          `xplor_envelope` starts, which then replaces the polynomial
    Source: Gasteiger et al., DimeNet (2020), eq. 7; the factor is 2 / r_max, as in NequIP
    """

    def __init__(self, r_max: float, n_bessel: int, envelope_power: int, trainable: bool, r_on: float = 0.0) -> None:
        super().__init__()
        if r_max <= 0.0 or n_bessel < 1 or envelope_power < 3:
            raise ConfigError(
                "EQ1041",
                f"r_max={r_max} Å, n_bessel={n_bessel}, envelope_power={envelope_power}: expected > 0, >= 1, >= 3; "
                "correct the value that is out of range",
            )
        self.r_max = r_max
        self.x_on = r_on / r_max
        self.envelope_power = envelope_power
        # n, not n pi: small integers are exact in every dtype
        self.frequency = nn.Parameter(torch.arange(1.0, n_bessel + 1.0), requires_grad=trainable)

    def forward(self, edge_length: Tensor) -> Tensor:
        """Edge_length [n_edges, 1] Å, float64, > 0 -> [n_edges, n_bessel] float64, exactly 0 for r >= r_max."""
        x = edge_length / self.r_max
        frequency = self.frequency.to(torch.float64)
        # n sinc(n x) = sin(n pi x) / (pi x): finite in value and derivative also at x = 0
        basis = (2.0 * math.pi / (self.r_max * self.r_max)) * frequency * torch.sinc(frequency * x)
        if self.x_on > 0.0:
            return basis * xplor_envelope(x, self.x_on)
        return basis * polynomial_envelope(x, self.envelope_power)
