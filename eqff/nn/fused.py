"""Models on compiled kernels: the same weights and the same function, with convolutions exchanged."""

from pathlib import Path
from typing import List, Tuple

import torch
from torch import Tensor, nn

from eqff.kernels import fused, source
from eqff.kernels.source import InputBlock, Layout, Row, Term
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.features import join_blocks
from eqff.nn.linear import SpeciesLinear


class FusedConvolution(nn.Module):
    """Stands for a TensorProductConvolution: one operator for gather, tensor product, weights and sum.

    Args: convolution; kernel, library: name and file of its compiled kernel
    """

    shapes: List[Tuple[int, int]]  # (2 l3 + 1, channels) of the output blocks

    def __init__(self, convolution: TensorProductConvolution, kernel: str, library: Path) -> None:
        super().__init__()
        self.kernel, self.library = kernel, library
        self.coupling = convolution.coupling  # compiled into the kernel; kept so that the state has the same names
        self.shapes = [(block.irrep.dim, block.n_channels) for block in convolution.irreps_out]

    def forward(
        self, blocks: List[Tensor], edge_sh: Tensor, edge_weight: Tensor, senders: Tensor, receivers: Tensor
    ) -> List[Tensor]:
        """As TensorProductConvolution."""
        x = join_blocks(blocks)
        out = torch.ops.eqff.convolve(x, edge_sh, edge_weight, senders, receivers, self.kernel)
        return split_segments(out, x.shape[0], self.shapes)


def split_segments(out: Tensor, n_atoms: int, shapes: List[Tuple[int, int]]) -> List[Tensor]:
    """One buffer of segments -> blocks [n_atoms, 2l+1, n_channels], views."""
    parts = out.split([n_atoms * dim * n_channels for dim, n_channels in shapes])
    return [part.view(n_atoms, dim, n) for part, (dim, n) in zip(parts, shapes)]  # noqa: B905


def fuse(model: nn.Module) -> nn.Module:
    """Exchange every TensorProductConvolution of a model, in place, for its compiled kernel.

    Weights, their names and the function stay the same; the result runs on the CPU only.

    Raises: ResourceError without a compiler
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, TensorProductConvolution)
    ]
    kernels = kernels_of([child for _, _, child in found])
    for (parent, name, child), kernel in zip(found, kernels, strict=True):
        setattr(parent, name, FusedConvolution(child, *kernel))
    return model


def kernels_of(convolutions: List[TensorProductConvolution]) -> list[tuple[str, Path]]:
    """Names and libraries of their kernels, compiled and loaded."""
    layouts = [layout(convolution) for convolution in convolutions]
    libraries = fused.load(layouts)
    return [(source.name(each), libraries[source.name(each)]) for each in layouts]


def layout(convolution: TensorProductConvolution) -> Layout:
    """What a kernel must know of a convolution, with the coupling coefficients of this very model."""
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


class FusedSpeciesLinear(nn.Module):
    """Stands for a SpeciesLinear with fixed weights: every atom is multiplied by its own matrix alone."""

    def __init__(self, linear: SpeciesLinear) -> None:
        super().__init__()
        self.sources, self.outputs = linear.sources, linear.outputs
        self.weights = [(w * scale).detach() for w, scale in zip(linear.weights, linear.scales, strict=True)]
        self.transposed = [weight.transpose(1, 2).contiguous() for weight in self.weights]

    def forward(self, blocks: List[Tensor], species: Tensor, added: List[Tensor]) -> List[Tensor]:
        """As SpeciesLinear."""
        results = list(added)
        for output, weight, transposed in zip(self.outputs, self.weights, self.transposed, strict=True):
            x = blocks[self.sources[output]]
            results[output] = results[output] + torch.ops.eqff.species_linear(x, weight, transposed, species)
        return results


def specialise(model: nn.Module) -> nn.Module:
    """Exchange every SpeciesLinear of a model, in place, for a kernel; its weights and dtype are fixed from then on.

    Raises: ResourceError without a compiler
    """
    fused.load_operators()
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, SpeciesLinear):
                setattr(parent, name, FusedSpeciesLinear(child))
    return model
