"""Equivariant convolution: depth-wise tensor product of neighbours' features with edge harmonics."""

from typing import List, Tuple

import torch
from torch import Tensor, nn

from eqff.kernels.convolution import convolve
from eqff.nn.constant import Constant
from eqff.o3.coupling import coupling_matrix
from eqff.o3.irreps import Block, Irrep, Irreps, Path, tensor_product_paths


class TensorProductConvolution(nn.Module):
    r"""out_i^(path) = sum_j w_path(r_ij) (x_j^(l1) x Y_l2(r_ij))^(l3), each path with separate channels.

    Args:
        irreps_in: of x; irreps_edge: of the harmonics, degrees 0 ... l_max; targets: irreps to keep
    Attributes:
        irreps_out: one block per target that some path leads to; channels of its paths side by side, input block outer,
            edge degree inner
        paths: in the order of edge_weight's columns (input block, output irrep, edge degree), each n_channels wide
        weight_numel: columns of edge_weight
    """

    segments: List[List[Tuple[int, int]]]  # per input block: (2 l3 + 1, n_paths) of each output irrep
    gather: List[List[Tuple[int, int]]]  # per output irrep: (input block, segment) of its parts

    def __init__(self, irreps_in: Irreps, irreps_edge: List[Irrep], targets: List[Irrep]) -> None:
        super().__init__()
        l_max = max(irrep.l for irrep in irreps_edge)
        all_paths = tensor_product_paths(irreps_in, irreps_edge, targets)
        paths: List[Path] = []
        self.segments = []
        couplings, coupling_sizes, weight_sizes = [], [], []
        pieces: List[Tuple[Irrep, int, int, int]] = []  # output irrep, input block, segment, channels
        for k, block in enumerate(irreps_in):
            segments: List[Tuple[int, int]] = []
            paths_here: List[Path] = []
            for target in targets:
                same = [path for path in all_paths if path.block == k and path.irrep_out == target]
                if same:
                    pieces.append((target, k, len(segments), len(same) * block.n_channels))
                    segments.append((target.dim, len(same)))
                    paths_here += same
                    couplings.append(coupling_matrix(irreps_in, same, l_max))
            paths += paths_here
            self.segments.append(segments)
            coupling_sizes.append(sum(dim * n for dim, n in segments) * block.irrep.dim)
            weight_sizes.append(len(paths_here) * block.n_channels)
        self.paths, self.coupling_sizes, self.weight_sizes = paths, coupling_sizes, weight_sizes
        self.dims = [block.irrep.dim for block in irreps_in]  # 2 l1 + 1 of every input block
        self.channels = [block.n_channels for block in irreps_in]
        self.coupling = Constant(torch.cat(couplings, 1))
        self.weight_numel = sum(self.weight_sizes)
        reached = [irrep for irrep in targets if any(piece[0] == irrep for piece in pieces)]
        self.irreps_out = tuple(Block(i, sum(piece[3] for piece in pieces if piece[0] == i)) for i in reached)
        self.gather = [[(p[1], p[2]) for p in pieces if p[0] == i] for i in reached]

    def forward(
        self, blocks: List[Tensor], edge_sh: Tensor, edge_weight: Tensor, senders: Tensor, receivers: Tensor
    ) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels], edge_sh [n_edges, (l_max+1)^2], edge_weight [n_edges, weight_numel]."""
        n_edges = edge_sh.shape[0]
        couplings = torch.mm(edge_sh, self.coupling().to(edge_sh.dtype)).split(self.coupling_sizes, 1)
        weights = edge_weight.split(self.weight_sizes, 1)
        sums: List[List[Tensor]] = []
        for k, x in enumerate(blocks):
            if len(self.segments[k]) > 0:
                coupling = couplings[k].reshape(n_edges, self.coupling_sizes[k] // self.dims[k], self.dims[k])
                sums.append(convolve(x, coupling, weights[k], self.segments[k], senders, receivers))
            else:
                sums.append([x])  # no path starts here; a placeholder, never read
        outputs: List[Tensor] = []
        for pieces in self.gather:
            parts = [sums[k][segment] for k, segment in pieces]
            outputs.append(parts[0] if len(parts) == 1 else torch.cat(parts, 2))
        return outputs
