"""Radial networks as cubic splines of the edge length, for compiled potentials.

B-splines on equally spaced knots are C2, so forces are C1; errors fall with the fourth power of the distance of knots.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, List, Tuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.features import join_blocks
from eqff.nn.fused import kernels_of, split_segments


class SplineBasis(nn.Module):
    """Stands for a radial basis: where a length lies between equally spaced knots.

    Args: r_min, r_max Å; n_knots: intervals between them
    """

    def __init__(self, r_min: float, r_max: float, n_knots: int) -> None:
        super().__init__()
        self.r_min, self.r_max, self.n_knots = r_min, r_max, n_knots

    def forward(self, edge_length: Tensor) -> Tensor:
        """Edge_length [n_edges, 1] Å -> (index, fraction) [n_edges, 2]; index -1 from r_max on, 0 up to r_min."""
        position = (edge_length - self.r_min) * (self.n_knots / (self.r_max - self.r_min))
        index = position.detach().floor().clamp(0.0, self.n_knots - 1.0)
        fraction = (position - index).clamp(0.0, 1.0)
        outside = edge_length.detach() >= self.r_max
        return torch.cat([torch.where(outside, torch.full_like(index, -1.0), index), fraction], 1)


class SplineConvolution(nn.Module):
    """Stands for a TensorProductConvolution whose weights are cubic splines of the edge length.

    Args: convolution; kernel, library; table [n_knots + 4, weight_numel]: B-spline coefficients
    """

    shapes: List[Tuple[int, int]]

    def __init__(self, convolution: TensorProductConvolution, kernel: str, library: Path, table: Tensor) -> None:
        super().__init__()
        self.kernel, self.library = kernel, library
        self.shapes = [(block.irrep.dim, block.n_channels) for block in convolution.irreps_out]
        self.register_buffer("table", table)

    def forward(
        self, blocks: List[Tensor], edge_sh: Tensor, edge_knot: Tensor, senders: Tensor, receivers: Tensor
    ) -> List[Tensor]:
        """As TensorProductConvolution, with edge_knot [n_edges, 2] of SplineBasis for the weights."""
        x = join_blocks(blocks)
        out = torch.ops.eqff.convolve_spline(x, edge_sh, edge_knot, self.table, senders, receivers, self.kernel)
        return split_segments(out, x.shape[0], self.shapes)


def tabulate(model: nn.Module, r_min: float, n_knots: int) -> nn.Module:
    """Exchange radial networks and convolutions of a model, in place, for splines and compiled kernels.

    Works on every model with a child `basis` and layers with children `radial` and `convolution`, as NequIP.

    Args:   r_min Å: below it the splines stay constant and wrong
    Raises: ConfigError if the model has no such layers; ResourceError without a compiler
    """
    basis, layers = _radial_layers(model)
    kernels = kernels_of([layer.convolution for layer in layers])
    for layer, kernel in zip(layers, kernels, strict=True):
        table = spline_table(basis, layer.radial, r_min, basis.r_max, n_knots)
        table = table.to(next(layer.radial.parameters()).dtype)
        layer.convolution = SplineConvolution(layer.convolution, *kernel, table)
        layer.radial = nn.Identity()
    model.basis = SplineBasis(r_min, basis.r_max, n_knots)
    return model


def spline_errors(model: nn.Module, r_min: float, n_knots: int, n_points: int = 10_000) -> dict[str, float]:
    """Largest errors of the splines of `tabulate` and of their first two derivatives on [r_min, r_max].

    Returns: each relative to the largest exact value of any weight in its layer, worst layer
    """
    basis, layers = _radial_layers(model)
    r = torch.linspace(r_min, basis.r_max, n_points + 2, dtype=torch.float64)[1:-1]
    worst = [0.0, 0.0, 0.0]
    for layer in layers:
        exact, table = (
            _radial_function(basis, layer.radial),
            spline_table(basis, layer.radial, r_min, basis.r_max, n_knots),
        )
        first = _derivative(exact)
        spline = spline_values(table, r, r_min, basis.r_max)
        for order, (target, value) in enumerate(zip((exact(r), first(r), _derivative(first)(r)), spline, strict=True)):
            worst[order] = max(worst[order], float((value - target).abs().max() / target.abs().max()))
    return dict(zip(("spline_value_error", "spline_slope_error", "spline_curvature_error"), worst, strict=True))


def _radial_layers(model: Any) -> tuple[Any, list[Any]]:
    """The radial basis of a model, and its layers with a radial network and a convolution."""
    layers = [m for m in model.modules() if isinstance(getattr(m, "convolution", None), TensorProductConvolution)]
    basis = getattr(model, "basis", None)
    if basis is None or not layers or not all(hasattr(layer, "radial") for layer in layers):
        raise ConfigError("EQ1090", f"{type(model).__name__} has no radial networks that splines can stand for")
    return basis, layers


def spline_values(table: Tensor, r: Tensor, r_min: float, r_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values, first and second derivatives [n, n_weights] of a table at r [n] Å; the definition, in plain ATen."""
    n_knots = table.shape[0] - 4
    width = (r_max - r_min) / n_knots
    position = (r - r_min) / width
    index = position.floor().clamp(0, n_knots - 1)
    f = (position - index).unsqueeze(1)
    g = 1.0 - f
    splines = (
        [g**3 / 6, (3 * f**3 - 6 * f**2 + 4) / 6, (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6, f**3 / 6],
        [-(g**2) / 2, (3 * f**2 - 4 * f) / 2, (-3 * f**2 + 2 * f + 1) / 2, f**2 / 2],
        [g, 3 * f - 2, 1 - 3 * f, f],
    )
    rows = [table[index.long() + k] for k in range(4)]
    values = [torch.stack([s * row for s, row in zip(order, rows, strict=True)]).sum(0) for order in splines]
    return values[0], values[1] / width, values[2] / width**2


def _radial_function(basis: nn.Module, radial: nn.Module) -> Callable[[Tensor], Tensor]:
    """r [n] Å -> weights [n, n_weights], float64."""
    exact = copy.deepcopy(radial).to(torch.float64).requires_grad_(False)
    return lambda r: exact(basis(r.unsqueeze(1)).to(torch.float64))


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of a function of every r by itself."""
    return lambda r: torch.func.jvp(function, (r,), (torch.ones_like(r),))[1]


def spline_table(basis: nn.Module, radial: nn.Module, r_min: float, r_max: float, n_knots: int) -> Tensor:
    """Coefficients [n_knots + 4, n_weights] of the cubic B-spline through radial(basis(r)) at equally spaced knots.

    The slope is exact at r_min; value and two derivatives vanish at r_max. Computed and returned in float64.
    """
    function = _radial_function(basis, radial)
    knots = torch.linspace(r_min, r_max, n_knots + 1, dtype=torch.float64)
    values, slope = function(knots), _derivative(function)(knots[:1])
    width = (r_max - r_min) / n_knots
    system = torch.zeros(n_knots + 3, n_knots + 3, dtype=torch.float64)
    rows = torch.arange(n_knots + 1)
    for shift, weight in enumerate((1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0)):
        system[rows + 1, rows + shift] = weight
    for row, first in ((0, 0), (n_knots + 2, n_knots)):  # slopes at both ends
        system[row, first], system[row, first + 2] = -0.5 / width, 0.5 / width
    table = torch.linalg.solve(system, torch.cat([slope, values, torch.zeros_like(slope)]))
    table[-3:] = 0.0  # the three splines that reach across r_max; of fourth order in the knots' distance
    return torch.cat([table, torch.zeros_like(slope)]).contiguous()
