"""Equivariant layer norm: torch's on scalars, root mean squares elsewhere, rotations pass through."""

import torch
from e3nn import o3

from eqff.nn.layer_norm import EquivariantLayerNorm
from eqff.o3.irreps import parse

IRREPS = parse("5x0e + 3x0o + 4x1o + 2x2e")


def example(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    norm = EquivariantLayerNorm(IRREPS).double()
    for parameter in norm.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    shapes = [(n, block.irrep.dim, block.n_channels) for block in IRREPS]
    return norm, [3.0 * torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


def close(one, other, tolerance=1e-13):
    torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=tolerance)


def test_even_scalars_are_normalised_as_torch_does():
    norm, blocks = example()
    expected = torch.nn.functional.layer_norm(blocks[0], (5,), norm.weights[0], norm.bias)
    close(norm(blocks)[0], expected)


def test_other_irreps_are_divided_by_their_root_mean_square():
    norm, blocks = example()
    for k in (1, 2, 3):
        root = (blocks[k].pow(2).sum([1, 2], keepdim=True) / blocks[k][0].numel() + 1e-5).sqrt()
        close(norm(blocks)[k], blocks[k] / root * norm.weights[k])
    fresh = EquivariantLayerNorm(IRREPS).double()(blocks)
    for block in fresh:
        close(block.pow(2).mean([1, 2]), torch.ones(6, dtype=torch.float64), 1e-4)


def test_rotations_pass_through():
    norm, blocks = example()
    angles = torch.tensor([0.3, 1.1, -0.7], dtype=torch.float64)
    wigner = [o3.wigner_D(block.irrep.l, *angles) for block in IRREPS]
    turned = norm([torch.einsum("ij,njc->nic", d, block) for d, block in zip(wigner, blocks, strict=True)])
    for one, d, block in zip(turned, wigner, norm(blocks), strict=True):
        close(one, torch.einsum("ij,njc->nic", d, block))


def test_zero_blocks_stay_zero_with_two_finite_derivatives():
    norm, blocks = example(2)
    zeros = [torch.zeros_like(block).requires_grad_(True) for block in blocks[1:]]
    outputs = norm([blocks[0], *zeros])
    assert all(torch.equal(output, torch.zeros_like(output)) for output in outputs[1:])

    def normed(x):
        return norm([blocks[0], zeros[0], x, zeros[2]])[2]

    assert torch.autograd.gradcheck(normed, [zeros[1]], eps=1e-8)
    (first,) = torch.autograd.grad(normed(zeros[1]).pow(3).sum() + normed(zeros[1]).sum(), zeros[1], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), zeros[1])
    assert torch.isfinite(second).all()


def test_no_atoms():
    norm, blocks = example(0)
    assert [output.shape for output in norm(blocks)] == [block.shape for block in blocks]
