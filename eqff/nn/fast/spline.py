"""Radial networks as quintic splines of the edge length, for compiled potentials.

Value, slope and curvature are those of the network at equally spaced knots: splines are C2, so forces are C1; errors
fall with the sixth power of the spacing of knots, those of slopes with the fifth.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, List, Tuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.fused import kernels_of, split_segments, whole
from eqff.nn.fast.layers import radial_function, radial_layers, spline_obstacle


class SplineBasis(nn.Module):
    """Replaces a radial basis: the place of a length among equally spaced knots.

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
    """Replaces a TensorProductConvolution whose weights are splines of the edge length.

    Args: convolution; kernel, library; table [n_knots + 1, 3, weight_numel]: see `spline_table`
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
        x = whole(blocks)
        out = torch.ops.eqff.convolve_spline(x, edge_sh, edge_knot, self.table, senders, receivers, self.kernel)
        return split_segments(out, x.shape[0], self.shapes)


def tabulate(model: nn.Module, r_min: float, n_knots: int) -> nn.Module:
    """Replace radial networks and convolutions of a model, in place, with splines and compiled kernels.

    `eqff.nn.fast.layers` says for which models this works.

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
            radial_function(basis, layer.radial),
            spline_table(basis, layer.radial, r_min, basis.r_max, n_knots),
        )
        first = _derivative(exact)
        spline = spline_values(table, r, r_min, basis.r_max)
        for order, (target, value) in enumerate(zip((exact(r), first(r), _derivative(first)(r)), spline, strict=True)):
            worst[order] = max(worst[order], float((value - target).abs().max() / target.abs().max().clamp(min=1e-12)))
    return dict(zip(("spline_value_error", "spline_slope_error", "spline_curvature_error"), worst, strict=True))


def _radial_layers(model: Any) -> tuple[Any, list[Any]]:
    """The radial basis of a model, and its layers with a convolution and a radial network that is 0 at r_max."""
    obstacle = spline_obstacle(model)
    if obstacle:
        raise ConfigError(
            "EQ1090", f"{type(model).__name__} takes no radial splines: {obstacle}; leave the splines off"
        )
    return model.basis, [layer for _, layer in radial_layers(model)]


def spline_values(table: Tensor, r: Tensor, r_min: float, r_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values, first and second derivatives [n, n_weights] of a table at r [n] Å; the definition, in plain ATen."""
    n_knots = table.shape[0] - 1
    width = (r_max - r_min) / n_knots
    position = (r - r_min) / width
    index = position.floor().clamp(0, n_knots - 1)
    # polynomials in t of value, slope, curvature at the start of an interval, then at its end; powers 0 ... 5
    hermite = torch.tensor(
        [
            [1, 0, 0, -10, 15, -6],
            [0, 1, 0, -6, 8, -3],
            [0, 0, 0.5, -1.5, 1.5, -0.5],
            [0, 0, 0, 10, -15, 6],
            [0, 0, 0, -4, 7, -3],
            [0, 0, 0, 0.5, -1, 0.5],
        ],
        dtype=torch.float64,
    )
    corners = torch.cat([table[index.long()], table[index.long() + 1]], 1)  # [n, 6, n_weights]
    results = []
    for order in range(3):
        powers = (position - index).unsqueeze(1) ** torch.arange(6 - order)
        basis = powers @ hermite.t() / width**order  # [n, 6]
        results.append((basis.unsqueeze(2) * corners).sum(1))
        hermite = hermite[:, 1:] * torch.arange(1.0, 6.0 - order)
    return results[0], results[1], results[2]


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of a function of every r by itself."""
    return lambda r: torch.func.jvp(function, (r,), (torch.ones_like(r),))[1]


def spline_table(basis: nn.Module, radial: nn.Module, r_min: float, r_max: float, n_knots: int) -> Tensor:
    """Coefficients of a spline of radial(basis(r)), for n_knots intervals between r_min and r_max.

    Returns: [n_knots + 1, 3, n_weights] float64: value, slope and curvature at the knots, derivatives by r / width of
             an interval; exactly 0 at r_max if the function vanishes there
    """
    function = radial_function(basis, radial)
    slope = _derivative(function)
    width = (r_max - r_min) / n_knots
    knots = torch.linspace(r_min, r_max, n_knots + 1, dtype=torch.float64)
    table = torch.stack([function(knots), width * slope(knots), width**2 * _derivative(slope)(knots)], 1)
    if float(table[-1].abs().max()) < 1e-9 * float(table.abs().max()):
        table[-1] = 0.0  # it does, up to rounding, unless the envelope is applied in the attention
    return table.contiguous()
