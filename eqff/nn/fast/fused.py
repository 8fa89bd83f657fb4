"""Models on compiled kernels: the same weights and the same function, with convolutions and linear maps replaced."""

from itertools import accumulate
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

import torch
from torch import Tensor, nn

from eqff.errors import GraphError
from eqff.kernels import fused, source
from eqff.kernels.source import InputBlock, Layout, Row, Term
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.layers import radial_layers, shared_radial
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.linear import BlockLinear, SpeciesLinear
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial_profile import RadialProfile


class FusedConvolution(nn.Module):
    """Replaces a TensorProductConvolution: one operator for gather, tensor product, weights and sum.

    Args: convolution; kernel, library: name and file of its compiled kernel
    """

    shapes: List[Tuple[int, int]]  # (2 l3 + 1, channels) of the output blocks

    def __init__(self, convolution: TensorProductConvolution, kernel: str, library: Path) -> None:
        super().__init__()
        self.kernel, self.library = kernel, library
        self.coupling = convolution.coupling  # compiled into the kernel; kept so that the state has the same names
        self.shapes = [(block.irrep.dim, block.n_channels) for block in convolution.irreps_out]

    def forward(
        self, blocks: List[Tensor], edge_sh: Tensor, edge_weight: "Tensor | Shared", senders: Tensor, receivers: Tensor
    ) -> List[Tensor]:
        """As TensorProductConvolution."""
        x = whole(blocks)
        weight, rows = edge_weight if isinstance(edge_weight, Shared) else (edge_weight, None)
        out = torch.ops.eqff.convolve(x, edge_sh, weight, rows, senders, receivers, self.kernel)
        return split_segments(out, x.shape[0], self.shapes)


def split_segments(out: Tensor, n_atoms: int, shapes: List[Tuple[int, int]]) -> List[Tensor]:
    """One buffer of segments -> blocks [n_atoms, 2l+1, n_channels], views."""
    parts = out.split([n_atoms * dim * n_channels for dim, n_channels in shapes])
    return [part.view(n_atoms, dim, n) for part, (dim, n) in zip(parts, shapes)]  # noqa: B905


def fuse(model: nn.Module) -> nn.Module:
    """Replace every convolution and linear map of a model, in place, with compiled kernels.

    Weights, their names and the function stay the same; the result runs on the CPU only.

    Raises: ResourceError without a compiler
    """
    convolutions = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, TensorProductConvolution)
    ]
    kernels = kernels_of([child for _, _, child in convolutions])
    for (parent, name, child), kernel in zip(convolutions, kernels, strict=True):
        setattr(parent, name, FusedConvolution(child, *kernel))
    for parent in list(model.modules()):
        for name, linear in parent.named_children():
            if isinstance(linear, BlockLinear | SpeciesLinear):
                setattr(parent, name, FusedLinear(linear))
    return model


def share_radial(model: nn.Module) -> nn.Module:
    """Evaluate radial networks once for both directions of an edge, in place; for training on complete neighbour lists.

    The function stays the same. `eqff.nn.fast.layers` says which layers can share.
    """
    for _, layer in radial_layers(model, FusedConvolution):
        radial = shared_radial(layer)
        if radial is not None:
            layer.radial = SharedRadial(radial)
    return model


def kernels_of(convolutions: List[TensorProductConvolution]) -> list[tuple[str, Path]]:
    """Names and libraries of their kernels, compiled and loaded."""
    layouts = [layout(convolution) for convolution in convolutions]
    libraries = fused.load(layouts)
    return [(source.name(each), libraries[source.name(each)]) for each in layouts]


def layout(convolution: TensorProductConvolution) -> Layout:
    """What a kernel needs to know about a convolution, with the coupling coefficients of this model."""
    couplings = convolution.coupling().split(convolution.coupling_sizes, 1)
    starts = {}  # (input block, segment) -> (output block, first channel)
    for out, pieces in enumerate(convolution.gather):
        channel = 0
        for k, segment in pieces:
            starts[k, segment] = (out, channel)
            channel += convolution.segments[k][segment][1] * convolution.channels[k]
    widths = [block.n_channels for block in convolution.irreps_out]
    blocks, offset, weight = [], 0, 0
    for k, (dim, n_channels) in enumerate(zip(convolution.dims, convolution.channels, strict=True)):
        table = couplings[k].reshape(couplings[k].shape[0], -1, dim)  # [n_sh, rows (segment, m3, path), m1]
        rows: list[Row] = []
        first = 0
        for segment, (dim_out, n_paths) in enumerate(convolution.segments[k]):
            out, channel = starts[k, segment]
            for path in range(n_paths):
                for m3 in range(dim_out):
                    column = m3 * widths[out] + channel + path * n_channels
                    rows.append(Row(weight, out, column, _terms(table[:, first + m3 * n_paths + path])))
                weight += n_channels
            first += dim_out * n_paths
        blocks.append(InputBlock(dim, n_channels, offset, tuple(rows)))
        offset += dim * n_channels
    segments = tuple(block.width for block in convolution.irreps_out)
    return Layout(tuple(blocks), segments, convolution.coupling().shape[0], offset, convolution.weight_numel)


def _terms(table: Tensor) -> tuple[Term, ...]:
    """Non-zero couplings [n_sh, 2 l1 + 1] of one row; round-off of exact zeros is far below 1e-12."""
    columns = table.t().tolist()
    found = [[(m2, value) for m2, value in enumerate(column) if abs(value) > 1e-12] for column in columns]
    return tuple(Term(m1, tuple(couplings)) for m1, couplings in enumerate(found) if couplings)


class Shared(NamedTuple):
    """Weights of edges; several edges may share a row."""

    weight: Tensor  # [n_rows, n_weights]
    rows: Tensor  # [n_edges] int64: row of each edge


class SharedRadial(nn.Module):
    """Replaces a radial network: an edge and its reverse share one evaluation.

    Attributes: pairs: edges to evaluate and row of every edge, as `pairs_of_edges`; None: derived from the input
    """

    def __init__(self, radial: ScalarMLP | RadialProfile) -> None:
        super().__init__()
        self.__dict__.update(radial.__dict__)  # the same weights, under the same names
        self.evaluate = radial.forward
        self.pairs: Tuple[Tensor, Tensor] | None = None

    def forward(self, edge_radial: Tensor) -> Shared:
        """As the radial network, but with a row for every pair of edges."""
        first, rows = pairs_of_rows(edge_radial) if self.pairs is None else self.pairs
        return Shared(self.evaluate(TakeRows.apply(edge_radial, first, rows)), rows)


class TakeRows(torch.autograd.Function):
    """x[first]; its derivative is a gather, too: torch 2.13 miscompiles several `index_add` into one tensor.

    Args: x [n_edges, n]; first [n_rows]: edges, in the order of their rows; rows [n_edges]: row of every edge
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(first, rows)
        return x.index_select(0, first)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:  # type: ignore[override]
        return PutRows.apply(grad_output, *ctx.saved_tensors), None, None


class PutRows(torch.autograd.Function):
    """The transpose of TakeRows: rows at their first edges [n_edges, n], zeros at the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(first, rows)
        is_first = first.index_select(0, rows) == torch.arange(rows.shape[0], device=rows.device)
        return torch.where(is_first.unsqueeze(1), x.index_select(0, rows), 0.0)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:  # type: ignore[override]
        return TakeRows.apply(grad_output, *ctx.saved_tensors), None, None


def pairs_of_edges(senders: Tensor, receivers: Tensor) -> Tuple[Tensor, Tensor]:
    """Pairs of an edge and its reverse, for molecules: at most one edge between two atoms, in both directions.

    Args:    senders, receivers [n_edges]
    Returns: edges to evaluate [n_edges / 2]; row of every edge [n_edges]
    Raises:  GraphError if an edge has no reverse
    """
    low, high = torch.minimum(senders, receivers), torch.maximum(senders, receivers)
    order = torch.argsort(low * (high.max() + 1) + high if len(high) > 0 else low, stable=True)
    first, second = order[0::2].contiguous(), order[1::2]
    distinct = len(first) == len(second) and bool((low != high).all())
    if (
        not distinct
        or not torch.equal(senders[first], receivers[second])
        or not torch.equal(receivers[first], senders[second])
    ):
        raise GraphError(
            "EQ2140",
            "senders, receivers: expected every edge of a molecule with its reverse, once; for periodic frames and cut "
            "lists take a model without `share_radial`",
        )
    rows = torch.empty_like(order)
    rows[order] = torch.arange(len(order), device=order.device) // 2
    return first, rows


def pairs_of_rows(edge_radial: Tensor) -> Tuple[Tensor, Tensor]:
    """Rows [n_edges, n_bessel] that occur exactly twice are those of an edge and its reverse.

    This holds in every complete neighbour list: by symmetry a third equal edge comes with a fourth, and rows that
    occur more than twice are left alone, because their gradients are different.

    Returns: edges to evaluate [n_rows]; row of every edge [n_edges]
    """
    edges = torch.arange(edge_radial.shape[0], device=edge_radial.device)
    _, group, count = torch.unique(edge_radial.detach()[:, 0], return_inverse=True, return_counts=True)
    nothing = torch.zeros_like(count)
    last = nothing.scatter_reduce(0, group, edges, "amax")  # of each group
    equal = (edge_radial.detach() == edge_radial.detach()[last[group]]).all(1)
    is_pair = (count == 2) & (nothing.index_add(0, group, equal.to(count.dtype)) == 2)
    both = nothing.index_add(0, group, edges)
    partner = torch.where(is_pair, both - last, 0)[group]
    first = ~is_pair[group] | (edges != last[group])
    number = first.cumsum(0) - 1
    return first.nonzero().squeeze(1), torch.where(first, number, number[partner])


class FusedLinear(nn.Module):
    """Replaces a BlockLinear or a SpeciesLinear: one operator for all blocks; each atom uses one matrix only."""

    def __init__(self, linear: BlockLinear | SpeciesLinear) -> None:
        super().__init__()
        self.weights, self.scales = linear.weights, linear.scales
        every = list(range(len(linear.weights)))
        self.outputs = linear.outputs if isinstance(linear, SpeciesLinear) else every
        self.shared = isinstance(linear, SpeciesLinear) and linear.shared
        self.sources = [linear.sources[k] for k in self.outputs] if isinstance(linear, SpeciesLinear) else every

    def forward(
        self, blocks: List[Tensor], species: Tensor | None = None, added: List[Tensor] | None = None
    ) -> List[Tensor]:
        """As SpeciesLinear with all arguments, as BlockLinear with the first alone."""
        weight = torch.cat(
            [  # [n_species or 1, sum of n_in * n_out]
                (w * scale).reshape(-1, w.shape[-2] * w.shape[-1])
                for w, scale in zip(self.weights, self.scales, strict=True)
            ],
            1,
        )
        starts = list(accumulate((block.shape[1] * block.shape[2] for block in blocks), initial=0))
        numbers: List[int] = []  # (2l+1, n_in, n_out, first number of the input, of the output) of each matrix
        shapes: List[Tuple[int, int]] = []
        width = 0
        for source_block, w in zip(self.sources, self.weights, strict=True):
            dim = blocks[source_block].shape[1]
            numbers += [dim, w.shape[-2], w.shape[-1], starts[source_block], width]
            shapes.append((dim, w.shape[-1]))
            width += dim * w.shape[-1]
        rows = None if self.shared else species
        y = torch.ops.eqff.linear(whole(blocks), weight, rows, numbers, starts[-1], width, True)
        results = split_blocks(y, shapes)
        if added is None:
            return results
        total = list(added)
        for output, result in zip(self.outputs, results, strict=True):
            total[output] = total[output] + result
        return total


def whole(blocks: List[Tensor]) -> Tensor:
    """All blocks in one tensor: the one they are views of, [n_atoms, width] or [n_atoms * width], or else a copy."""
    base = blocks[0]._base
    return base if base is not None and _is_cut_into(base, blocks) else join_blocks(blocks)


def _is_cut_into(base: Tensor, blocks: List[Tensor]) -> bool:
    """Whether `split_blocks` or `split_segments` of this tensor are these blocks."""
    n_atoms, widths = blocks[0].shape[0], [block.shape[1] * block.shape[2] for block in blocks]
    if base.dim() > 2 or not base.is_contiguous() or base.numel() != n_atoms * sum(widths):
        return False
    offset = base.storage_offset()
    for block, width in zip(blocks, widths, strict=True):
        stride = (sum(widths) if base.dim() == 2 else width, block.shape[2], 1)
        if block._base is not base or block.storage_offset() != offset or block.stride() != stride:
            return False
        offset += width if base.dim() == 2 else n_atoms * width
    return True
