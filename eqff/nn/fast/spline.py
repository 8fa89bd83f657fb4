"""Radial networks as quintic splines of the edge length, for compiled potentials.

Value, slope and curvature are those of the network at equally spaced knots: splines are C2, so forces are C1 (but where
the curvature of XPLOR's envelope itself jumps). Errors fall with the sixth power of the spacing of knots, those of
slopes with the fifth.
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

ROUNDING = 1e-12  # of an interval's length
POINTS_TOGETHER = 500  # radial functions of many channels at 10,000 points fill gigabytes


class SplineBasis(nn.Module):
    """Replaces a radial basis: the place of a length among equally spaced knots.

    Args: r_min, r_max Å; n_knots: intervals between them; r_on Å: if above r_min, where curvatures jump: there are two
          knots, one for either side, and the spacing below differs from that above
    """

    def __init__(self, r_min: float, r_max: float, n_knots: int, r_on: float = 0.0) -> None:
        super().__init__()
        self.r_min, self.r_max, self.n_knots = r_min, r_max, n_knots
        self.r_on = r_on if r_on > r_min else r_max
        share = (self.r_on - r_min) / (r_max - r_min)
        self.n_below = n_knots if share == 1.0 else min(max(round(n_knots * share), 1), n_knots - 1)

    def place(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """R Å, any shape -> (index of the knot before it, fraction of the interval), of the same shape."""
        index, fraction = _place(r, self.r_min, self.r_on, self.n_below)
        if self.n_below == self.n_knots:
            return index, fraction
        beyond, part = _place(r, self.r_on, self.r_max, self.n_knots - self.n_below)
        above = r.detach() >= self.r_on
        return torch.where(above, beyond + (self.n_below + 1.0), index), torch.where(above, part, fraction)

    def forward(self, edge_length: Tensor) -> Tensor:
        """Edge_length [n_edges, 1] Å -> (index, fraction) [n_edges, 2]; index -1 from r_max on, 0 up to r_min."""
        index, fraction = self.place(edge_length)
        outside = edge_length.detach() >= self.r_max
        return torch.cat([torch.where(outside, torch.full_like(index, -1.0), index), fraction], 1)

    def knots(self) -> tuple[Tensor, Tensor]:
        """(radii Å, widths Å of their intervals), [n] each: n_knots + 1, and one more where curvatures jump.

        The last knot of either part lies below its end by rounding, the first of the upper part above it, so that
        functions are taken from the side of their interval.
        """
        ends = [(self.r_min, self.r_on, self.n_below), (self.r_on, self.r_max, self.n_knots - self.n_below)]
        radii, widths = [], []
        for k, (low, high, n) in enumerate(ends):
            if n > 0:
                r = torch.linspace(low, high, n + 1, dtype=torch.float64)
                r[-1] -= ROUNDING * (high - low)
                r[0] += ROUNDING * (high - low) * k
                radii.append(r)
                widths.append(torch.full_like(r, (high - low) / n))
        return torch.cat(radii), torch.cat(widths)


def _place(r: Tensor, low: float, high: float, n: int) -> tuple[Tensor, Tensor]:
    position = (r - low) * (n / (high - low))
    index = position.detach().floor().clamp(0.0, n - 1.0)
    return index, (position - index).clamp(0.0, 1.0)


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
    knots = spline_basis(basis, r_min, n_knots)
    kernels = kernels_of([layer.convolution for layer in layers])
    for layer, kernel in zip(layers, kernels, strict=True):
        table = spline_table(basis, layer.radial, knots)
        table = table.to(next(layer.radial.parameters()).dtype)
        layer.convolution = SplineConvolution(layer.convolution, *kernel, table)
        layer.radial = nn.Identity()
    model.basis = knots
    return model


def spline_basis(basis: Any, r_min: float, n_knots: int) -> SplineBasis:
    """Knots for a radial basis; its `x_on`, if any, is where the curvature of its envelope jumps."""
    return SplineBasis(r_min, basis.r_max, n_knots, getattr(basis, "x_on", 0.0) * basis.r_max)


def spline_errors(model: nn.Module, r_min: float, n_knots: int, n_points: int = 10_000) -> dict[str, float]:
    """Largest errors of the splines of `tabulate` and of their first two derivatives on [r_min, r_max].

    Returns: each relative to the largest exact value of any weight in its layer, worst layer
    """
    basis, layers = _radial_layers(model)
    knots = spline_basis(basis, r_min, n_knots)
    r = torch.linspace(r_min, basis.r_max, n_points + 2, dtype=torch.float64)[1:-1]
    worst = torch.zeros(3, dtype=torch.float64)
    for layer in layers:
        exact, table = radial_function(basis, layer.radial), spline_table(basis, layer.radial, knots)
        first = _derivative(exact)
        second = _derivative(first)
        off, size = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for some in r.split(POINTS_TOGETHER):
            spline = spline_values(table, some, knots)
            for order, (target, value) in enumerate(zip((exact(some), first(some), second(some)), spline, strict=True)):
                off[order] = off[order].maximum((value - target).abs().max())
                size[order] = size[order].maximum(target.abs().max())
        worst = worst.maximum(off / size.clamp(min=1e-12))
    return dict(
        zip(("spline_value_error", "spline_slope_error", "spline_curvature_error"), worst.tolist(), strict=True)
    )


def _radial_layers(model: Any) -> tuple[Any, list[Any]]:
    """The radial basis of a model, and its layers with a convolution and a radial network that is 0 at r_max."""
    obstacle = spline_obstacle(model)
    if obstacle:
        raise ConfigError(
            "EQ1090", f"{type(model).__name__} takes no radial splines: {obstacle}; leave the splines off"
        )
    return model.basis, [layer for _, layer in radial_layers(model)]


def spline_values(table: Tensor, r: Tensor, knots: SplineBasis) -> tuple[Tensor, Tensor, Tensor]:
    """Values, first and second derivatives [n, n_weights] of a table at r [n] Å; the definition, in plain ATen."""
    index, fraction = knots.place(r)
    width = knots.knots()[1][index.long()].unsqueeze(1)
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
        powers = fraction.unsqueeze(1) ** torch.arange(6 - order)
        basis = powers @ hermite.t() / width**order  # [n, 6]
        results.append((basis.unsqueeze(2) * corners).sum(1))
        hermite = hermite[:, 1:] * torch.arange(1.0, 6.0 - order)
    return results[0], results[1], results[2]


def _derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of a function of every r by itself."""
    return lambda r: torch.func.jvp(function, (r,), (torch.ones_like(r),))[1]


def spline_table(basis: nn.Module, radial: nn.Module, knots: SplineBasis) -> Tensor:
    """Coefficients of a spline of radial(basis(r)).

    Returns: [n, 3, n_weights] float64: value, slope and curvature at the knots, derivatives by r / width of the
             interval; values that are 0 at r_max up to rounding are exactly 0
    """
    function = radial_function(basis, radial)
    slope = _derivative(function)
    radii, widths = knots.knots()
    width = widths.unsqueeze(1)
    table = torch.stack([function(radii), width * slope(radii), width**2 * _derivative(slope)(radii)], 1)
    last = table[-1]  # is not 0 where the envelope is applied in the attention
    last[last.abs() < 1e-9 * table.abs().max()] = 0.0
    return table.contiguous()
