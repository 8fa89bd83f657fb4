"""Linear maps against e3nn's Linear and FullyConnectedTensorProduct."""

import torch
from e3nn import o3

from eqff.nn.linear import BlockLinear, SpeciesLinear
from eqff.o3.irreps import parse

N_ATOMS = 6


def generator():
    return torch.Generator().manual_seed(3)


def random_blocks(irreps, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    shapes = [(N_ATOMS, block.irrep.dim, block.n_channels) for block in irreps]
    return [torch.randn(*shape, dtype=torch.float64, generator=numbers) for shape in shapes]


def channels_first(blocks):
    """Our [n_atoms, 2l+1, n_channels] blocks -> e3nn's [n_atoms, n_channels (2l+1)]."""
    return torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], 1)


def test_block_linear_is_e3nns():
    irreps_in, irreps_out = parse("5x0e + 3x1o + 2x2e"), parse("4x0e + 6x1o + 1x2e")
    ours = BlockLinear([b.n_channels for b in irreps_in], [b.n_channels for b in irreps_out], generator()).double()
    theirs = o3.Linear("5x0e + 3x1o + 2x2e", "4x0e + 6x1o + 1x2e").double()
    theirs.weight.data = torch.cat([weight.detach().flatten() for weight in ours.weights])
    blocks = random_blocks(irreps_in)
    expected = theirs(channels_first(blocks))
    torch.testing.assert_close(channels_first(ours(blocks)), expected, rtol=0, atol=1e-13)


def test_species_linear_is_e3nns_product_with_one_hot():
    """Irreps without a partner on the other side neither give nor take anything."""
    n_species, irreps_in, irreps_out = 3, parse("4x0e + 2x1o + 3x2e"), parse("3x2e + 5x0e + 2x1e")
    ours = SpeciesLinear(irreps_in, irreps_out, n_species, generator()).double()
    theirs = o3.FullyConnectedTensorProduct("4x0e + 2x1o + 3x2e", "3x0e", "3x2e + 5x0e + 2x1e").double()
    order = [1, 0]  # theirs runs over inputs, ours over outputs
    weights = [ours.weights[k].detach().permute(1, 0, 2) * n_species**0.5 for k in order]
    theirs.weight.data = torch.cat([weight.flatten() for weight in weights])
    species = torch.tensor([0, 2, 1, 1, 0, 2])
    blocks, added = random_blocks(irreps_in), random_blocks(irreps_out, seed=1)
    one_hot = torch.nn.functional.one_hot(species, n_species).double()
    expected = channels_first(added) + theirs(channels_first(blocks), one_hot)
    torch.testing.assert_close(channels_first(ours(blocks, species, added)), expected, rtol=0, atol=1e-13)
    assert ours.sources == [2, 0, -1]


def test_no_atoms():
    irreps = parse("4x0e + 2x1o")
    empty = [block[:0] for block in random_blocks(irreps)]
    species = torch.zeros(0, dtype=torch.int64)
    ours = SpeciesLinear(irreps, irreps, 2, generator()).double()
    assert [tuple(block.shape) for block in ours(empty, species, empty)] == [(0, 1, 4), (0, 3, 2)]
    assert [tuple(b.shape) for b in BlockLinear([4, 2], [1, 5], generator()).double()(empty)] == [(0, 1, 1), (0, 3, 5)]
