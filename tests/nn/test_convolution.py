"""The equivariant convolution against e3nn's TensorProduct, path by path."""

import pytest
import torch
from e3nn import o3

from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.harmonics import SphericalHarmonics
from eqff.o3.irreps import parse, spherical_harmonics_irreps, to_text

N_ATOMS, N_EDGES = 5, 11
CASES = [  # inputs, wanted outputs, l_max, natural parity
    ("4x0e", "0e + 1o", 1, True),
    ("3x0e + 2x1o + 1x2e", "0e + 1o + 2e", 2, True),
    ("2x1e + 3x0o + 2x1o", "1o + 0e + 0o", 2, True),
    ("3x0e + 2x1e", "1e + 0e", 1, False),
    ("2x0o + 2x0e", "0o", 0, True),  # the second block leads nowhere
]


def edges(n_edges=N_EDGES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64, generator=generator))
    senders = torch.randint(0, N_ATOMS, (n_edges,), generator=generator)
    receivers = torch.randint(0, N_ATOMS, (n_edges,), generator=generator)
    return direction, senders, receivers


def random_blocks(irreps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(N_ATOMS, block.irrep.dim, block.n_channels) for block in irreps]
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("inputs", "targets", "l_max", "natural"), CASES)
@pytest.mark.usefixtures("float64_default")
def test_every_path_is_e3nns(inputs, targets, l_max, natural):
    irreps, edge_irreps = parse(inputs), spherical_harmonics_irreps(l_max, natural)
    ours = TensorProductConvolution(irreps, edge_irreps, [block.irrep for block in parse(targets)]).double()
    direction, senders, receivers = edges()
    edge_sh = SphericalHarmonics(l_max)(direction)
    blocks = random_blocks(irreps)
    generator = torch.Generator().manual_seed(2)
    edge_weight = torch.randn(N_EDGES, ours.weight_numel, dtype=torch.float64, generator=generator)
    outputs = dict(zip([b.irrep for b in ours.irreps_out], ours(blocks, edge_sh, edge_weight, senders, receivers)))  # noqa: B905

    # one e3nn product with a slot per path, its weights in the order of `paths`
    slots = [(irreps[path.block].n_channels, o3.Irrep(*path.irrep_out)) for path in ours.paths]
    instructions = [(path.block, path.l_edge, k, "uvu", True) for k, path in enumerate(ours.paths)]
    sphere = [(1, o3.Irrep(*irrep)) for irrep in edge_irreps]
    product = o3.TensorProduct(
        to_text(irreps), sphere, slots, instructions, shared_weights=False, internal_weights=False
    )
    x = torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], 1)
    messages = product.double()(x[senders], edge_sh, edge_weight)
    sums = torch.zeros(N_ATOMS, messages.shape[1], dtype=torch.float64).index_add(0, receivers, messages)

    assert product.weight_numel == ours.weight_numel
    assert set(outputs) == {path.irrep_out for path in ours.paths}
    for irrep, computed in outputs.items():
        pieces = []
        for part, (n_channels, ir), path in zip(product.irreps_out.slices(), slots, ours.paths, strict=True):
            if path.irrep_out == irrep:
                pieces.append((path, sums[:, part].reshape(N_ATOMS, n_channels, ir.dim).transpose(1, 2)))
        pieces.sort(key=lambda piece: (piece[0].block, piece[0].l_edge))
        torch.testing.assert_close(computed, torch.cat([piece for _, piece in pieces], 2), rtol=0, atol=1e-12)


def test_no_edges_and_scripting():
    irreps = parse("3x0e + 2x1o")
    ours = TensorProductConvolution(irreps, spherical_harmonics_irreps(1), [b.irrep for b in irreps]).double()
    scripted = torch.jit.script(ours)
    for n_edges in (4, 0, 9, 4):
        direction, senders, receivers = edges(n_edges)
        edge_weight = torch.ones(n_edges, ours.weight_numel, dtype=torch.float64)
        arguments = (random_blocks(irreps), SphericalHarmonics(1)(direction), edge_weight, senders, receivers)
        for one, other in zip(ours(*arguments), scripted(*arguments), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
            assert n_edges > 0 or torch.equal(one, torch.zeros_like(one))
