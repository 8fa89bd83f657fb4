"""Splitting and joining are inverse, and keep components together."""

import torch

from eqff.nn.features import BlockSum, join_blocks, split_blocks
from eqff.o3.irreps import parse

SHAPES = [(1, 4), (3, 2), (5, 1)]


def test_inverse_of_each_other():
    h = torch.arange(2.0 * 15).reshape(2, 15)
    blocks = split_blocks(h, SHAPES)
    assert [tuple(block.shape[1:]) for block in blocks] == SHAPES
    torch.testing.assert_close(join_blocks(blocks), h, rtol=0, atol=0)


def test_a_block_is_components_by_channels():
    h = torch.arange(15.0).reshape(1, 15)
    torch.testing.assert_close(split_blocks(h, SHAPES)[1], torch.tensor([[[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]]))


def test_no_atoms_and_one_block():
    assert [tuple(b.shape) for b in split_blocks(torch.zeros(0, 15), SHAPES)] == [(0, 1, 4), (0, 3, 2), (0, 5, 1)]
    assert join_blocks(split_blocks(torch.zeros(0, 4), [(1, 4)])).shape == (0, 4)


def test_sums_by_irrep():
    """0e in both, 1o in the first alone, 2e in the second alone; in the order asked for."""
    x, y = [torch.ones(3, 1, 4), torch.full((3, 3, 2), 2.0)], [torch.full((3, 5, 1), 3.0), torch.full((3, 1, 4), 4.0)]
    add = BlockSum(parse("4x0e + 2x1o"), parse("1x2e + 4x0e"), parse("1x2e + 2x1o + 4x0e"))
    outputs = add(x, y)
    assert [tuple(block.shape) for block in outputs] == [(3, 5, 1), (3, 3, 2), (3, 1, 4)]
    assert [float(block.unique()) for block in outputs] == [3.0, 2.0, 5.0]
