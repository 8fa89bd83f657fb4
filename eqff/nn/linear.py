"""Linear maps that commute with rotations: one matrix per irrep, mixing channels only."""

import math
from typing import List, Sequence

import torch
from torch import Tensor, nn

from eqff.o3.irreps import Irrep, Irreps


class BlockLinear(nn.Module):
    """y = x W / sqrt(n_in), bias-free, for every block [n_atoms, 2l+1, n_in] -> [n_atoms, 2l+1, n_out].

    Args: n_in, n_out: channels of each block; generator: for the weights, drawn from N(0, 1)
    """

    def __init__(self, n_in: Sequence[int], n_out: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(i, o, generator=generator)) for i, o in zip(n_in, n_out, strict=True)]
        )
        self.scales = [1.0 / math.sqrt(i) for i in n_in]

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        outputs: List[Tensor] = []
        for k, weight in enumerate(self.weights):
            x = blocks[k]
            y = torch.mm(x.reshape(-1, x.shape[2]), weight * self.scales[k])
            outputs.append(y.view(x.shape[0], x.shape[1], weight.shape[1]))
        return outputs


class SpeciesLinear(nn.Module):
    """y_i = x_i W[species_i] / sqrt(n_in): a separate channel-mixing matrix for every species and irrep.

    Only irreps present in both input and output are mapped; `sources` is -1 for the other outputs.

    Args: irreps_in; irreps_out; n_species; generator; shared: one matrix for all species
    """

    outputs: List[int]
    scales: List[float]

    def __init__(
        self, irreps_in: Irreps, irreps_out: Irreps, n_species: int, generator: torch.Generator, shared: bool = False
    ) -> None:
        super().__init__()
        n_species = 1 if shared else n_species
        self.n_species, self.shared = n_species, shared
        channels_in = {block.irrep: (k, block.n_channels) for k, block in enumerate(irreps_in)}
        self.sources = [channels_in.get(block.irrep, (-1, 0))[0] for block in irreps_out]  # -1: nothing to map
        self.outputs = [k for k, source in enumerate(self.sources) if source >= 0]
        self.scales = []
        weights = []
        for k in self.outputs:
            n_in = channels_in[irreps_out[k].irrep][1]
            weights.append(nn.Parameter(torch.randn(n_species, n_in, irreps_out[k].n_channels, generator=generator)))
            self.scales.append(1.0 / math.sqrt(n_in))
        self.weights = nn.ParameterList(weights)

    def forward(self, blocks: List[Tensor], species: Tensor, added: List[Tensor]) -> List[Tensor]:
        """`added` [n_atoms, 2l+1, n_out] per output block, plus the mapped input."""
        if self.shared:
            species = torch.zeros_like(species)
        indices = torch.arange(self.n_species, device=species.device)
        one_hot = (species.unsqueeze(1) == indices).to(blocks[0].dtype)  # [n_atoms, n_species]
        results = [block for block in added]  # noqa: C416 (TorchScript knows no list() of tensors)
        for k, weight in enumerate(self.weights):
            output = self.outputs[k]
            x = blocks[self.sources[output]]
            by_species = one_hot[:, None, :, None] * x.unsqueeze(2)  # [n_atoms, 2l+1, n_species, n_in]
            y = torch.mm(by_species.reshape(-1, self.n_species * x.shape[2]), weight.flatten(0, 1) * self.scales[k])
            results[output] = results[output] + y.view(x.shape[0], x.shape[1], weight.shape[2])
        return results


class ScalarBias(nn.Module):
    """x + b on the even scalars, the only features to which rotations and inversion allow a constant to be added.

    Args: irreps: of the blocks, with even scalars
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.block = [block.irrep for block in irreps].index(Irrep(0, 1))
        self.bias = nn.Parameter(torch.zeros(irreps[self.block].n_channels))

    def forward(self, blocks: List[Tensor], scale: Tensor) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels]; scale [n_atoms, 1] multiplies b."""
        results = [block for block in blocks]  # noqa: C416 (TorchScript knows no list() of tensors)
        results[self.block] = blocks[self.block] + (scale * self.bias).unsqueeze(1)
        return results
