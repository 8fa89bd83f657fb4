"""Features as functions on the sphere: grids for point-wise non-linearities, sampled points for read-outs.

As published with eSCN. Energies through these are invariant only as far as grid and points resolve the functions, so no
model of this package uses them; they are here to run, test and take over published weights.
"""

import math
from typing import Tuple

import torch
from torch import Tensor, nn

from eqff.nn.constant import Constant
from eqff.nn.harmonics import SphericalHarmonics


def linear(n_in: int, n_out: int, bias: bool) -> nn.Linear:
    """A linear map whose weights are still to be filled in."""
    return nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias)


def latitude_weights(n_latitudes: int) -> Tensor:
    """Areas (sum 2) of rings at polar angles pi (j + 1/2) / n, exact for polynomials of degree < n; n even; float64.

    Source: Driscoll and Healy, Adv. Appl. Math. 15, 202 (1994)
    """
    angle = (torch.arange(n_latitudes, dtype=torch.float64) + 0.5) * math.pi / n_latitudes
    odd = 2.0 * torch.arange(n_latitudes // 2, dtype=torch.float64) + 1.0
    series = (torch.sin(angle.unsqueeze(1) * odd) / odd).sum(1)
    return 4.0 / n_latitudes * torch.sin(angle) * series


class SphereGrid(nn.Module):
    """Between coefficients of orthonormal harmonics and values on a grid of latitudes and longitudes about y.

    Args: l_max; m_max: coefficients are those with |m| <= m_max, by degree;
        resolution: latitudes and longitudes; None: as few as fit l_max and m_max
    Attributes: shape: (latitudes, longitudes); order: rows of all (l_max+1)^2 that are kept
    """

    def __init__(self, l_max: int, m_max: int, resolution: int | None = None) -> None:
        super().__init__()
        n_latitudes = resolution or 2 * (l_max + 1)
        n_longitudes = resolution or (2 * m_max + 1 if m_max < l_max else n_latitudes + 1)
        self.shape = (n_latitudes, n_longitudes)
        polar = (torch.arange(n_latitudes, dtype=torch.float64) + 0.5) * math.pi / n_latitudes
        azimuth = torch.arange(n_longitudes, dtype=torch.float64) * 2.0 * math.pi / n_longitudes
        polar, azimuth = (angle.flatten() for angle in torch.meshgrid(polar, azimuth, indexing="ij"))
        points = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], 1)
        harmonics = SphericalHarmonics(l_max)(points) / math.sqrt(4.0 * math.pi)
        self.order = [l * l + l + m for l in range(l_max + 1) for m in range(-min(l, m_max), min(l, m_max) + 1)]
        harmonics = harmonics[:, self.order]
        areas = latitude_weights(n_latitudes) * (2.0 * math.pi / n_longitudes)
        self.to_grid = Constant(harmonics)  # [n_points, n_coefficients]
        self.from_grid = Constant(harmonics * areas.repeat_interleave(n_longitudes).unsqueeze(1))

    def values(self, x: Tensor) -> Tensor:
        """Coefficients [n, n_coefficients, n_channels] -> values [n, n_points, n_channels]."""
        return torch.matmul(self.to_grid().to(x.dtype), x)

    def coefficients(self, values: Tensor) -> Tensor:
        """Values [n, n_points, n_channels] -> coefficients [n, n_coefficients, n_channels]."""
        return torch.matmul(self.from_grid().to(values.dtype).t(), values)

    def forward(self, x: Tensor) -> Tensor:
        """SiLU at every point of the grid: coefficients -> coefficients."""
        return self.coefficients(torch.nn.functional.silu(self.values(x)))


class GridMixing(nn.Module):
    """Features and message of an atom, mixed at every point of the sphere by a network of three layers.

    Args: n_channels; grid
    """

    def __init__(self, n_channels: int, grid: SphereGrid) -> None:
        super().__init__()
        self.grid = grid
        self.first = linear(2 * n_channels, n_channels, False)
        self.second = linear(n_channels, n_channels, False)
        self.third = linear(n_channels, n_channels, False)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """[n_atoms, n_coefficients, n_channels], twice -> the same shape."""
        values = torch.cat([self.grid.values(x), self.grid.values(message)], 2)
        values = torch.nn.functional.silu(self.second(torch.nn.functional.silu(self.first(values))))
        return self.grid.coefficients(self.third(values))


class PointNetwork(nn.Module):
    """A number for every channel vector: three linear layers, SiLU between them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first = linear(n_channels, n_channels, True)
        self.second = linear(n_channels, n_channels, True)
        self.third = linear(n_channels, 1, False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., n_channels] -> [..., 1]."""
        x = torch.nn.functional.silu(self.second(torch.nn.functional.silu(self.first(x))))
        return self.third(x)


class SphereReadout(nn.Module):
    r"""Energies and, directly, forces from features sampled at points p of the sphere.

    e_i = factor mean_p f(x_i(p)),  F_i = mean_p g(x_i(p)) p:  F is not the gradient of e.

    Args: n_channels; n_points; l_max; factor eV
    """

    points: Tensor
    harmonics: Tensor

    def __init__(self, n_channels: int, n_points: int, l_max: int, factor: float = 1e-3) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("points", torch.zeros(n_points, 3))
        self.register_buffer("harmonics", torch.zeros(n_points, (l_max + 1) ** 2))  # at the points
        self.energy = PointNetwork(n_channels)
        self.forces = PointNetwork(n_channels)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """[n_atoms, (l_max+1)^2, n_channels] -> energies [n_atoms] eV, forces [n_atoms, 3] eV/Å."""
        samples = torch.matmul(self.harmonics, x)  # [n_atoms, n_points, n_channels]
        energy = self.energy(samples).mean(1).squeeze(1) * self.factor
        return energy, (self.forces(samples) * self.points).mean(1)
