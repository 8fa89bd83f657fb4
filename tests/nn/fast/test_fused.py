"""Compiled kernels against the ATen reference, their derivatives, and radial splines against the networks."""

import copy

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from eqff.errors import GraphError
from eqff.graph import edge_vectors
from eqff.kernels import build
from eqff.models import equiformer, escn, nequip, se3_transformer, tfn
from eqff.neighbors import build_structure
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.fused import (
    Shared,
    SharedRadial,
    TakeRows,
    fuse,
    pairs_of_edges,
    pairs_of_rows,
    share_radial,
    split_segments,
    whole,
)
from eqff.nn.features import split_blocks
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.linear import BlockLinear, SpeciesLinear
from eqff.o3.irreps import parse, spherical_harmonics_irreps

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
CASES = [  # inputs, wanted outputs, l_max; channels that are no multiple of a vector, and some that are
    ("4x0e", "0e + 1o", 1),
    ("3x0e + 17x1o + 1x2e", "0e + 1o + 2e", 2),
    ("2x1e + 3x0o + 2x1o", "1o + 0e + 0o", 2),
    ("16x0e + 32x1o + 8x2e + 20x3o", "0e + 1o + 2e + 3o", 3),
    ("3x0e + 2x1o + 2x2e + 2x3o + 2x4e", "0e + 1o + 4e", 4),
    ("2x0o + 2x0e", "0o", 0),  # the second block leads nowhere
]
N_ATOMS = 6


class Wrapped(torch.nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution


def convolutions(inputs, targets, l_max, dtype=torch.float64):
    irreps = parse(inputs)
    reference = TensorProductConvolution(irreps, spherical_harmonics_irreps(l_max), [b.irrep for b in parse(targets)])
    return irreps, reference.to(dtype), fuse(Wrapped(copy.deepcopy(reference))).convolution.to(dtype)


def arguments(irreps, l_max, weight_numel, n_edges=14, n_atoms=N_ATOMS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n_edges)

    def numbers(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_(True)

    senders = torch.randint(0, n_atoms, (n_edges,), generator=generator)
    receivers = torch.randint(0, max(n_atoms - 1, 1), (n_edges,), generator=generator).sort().values
    blocks = [numbers(n_atoms, block.irrep.dim, block.n_channels) for block in irreps]
    direction = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64, generator=generator))
    edge_sh = SphericalHarmonics(l_max)(direction).to(dtype).requires_grad_(True)
    return blocks, edge_sh, numbers(n_edges, weight_numel), senders, receivers


def relative(one, other):
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-300))


@pytest.mark.parametrize(("inputs", "targets", "l_max"), CASES)
def test_values_and_two_derivatives_are_those_of_the_reference(inputs, targets, l_max):
    irreps, reference, fused = convolutions(inputs, targets, l_max)
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, l_max, reference.weight_numel)
    variables = [*blocks, edge_sh, edge_weight]
    results = []
    for convolution in (reference, fused):
        outputs = convolution(blocks, edge_sh, edge_weight, senders, receivers)
        value = sum((k + 1) * output.pow(3).sum() for k, output in enumerate(outputs))
        first = torch.autograd.grad(value, variables, create_graph=True, allow_unused=True)
        first = [zero if g is None else g for g, zero in zip(first, map(torch.zeros_like, variables), strict=True)]
        product = sum((g * torch.cos(variable.detach())).sum() for g, variable in zip(first, variables, strict=True))
        second = torch.autograd.grad(product, variables, allow_unused=True)
        second = [zero if g is None else g for g, zero in zip(second, map(torch.zeros_like, variables), strict=True)]
        results.append([*outputs, *first, *second])
    for computed, expected in zip(results[1], results[0], strict=True):
        assert computed.shape == expected.shape
        assert relative(computed, expected) < 1e-12


@pytest.mark.parametrize("n_threads", [1, 3])
def test_edges_may_share_weights(n_threads):
    irreps, reference, fused = convolutions(*CASES[3])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 3, reference.weight_numel, n_edges=900)
    rows = torch.randint(0, 500, (900,), generator=torch.Generator().manual_seed(0))
    weight = edge_weight.detach()[:500].clone().requires_grad_(True)
    variables = [*blocks, edge_sh, weight]
    results = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        for convolution, of_edges in ((reference, weight[rows]), (fused, Shared(weight, rows))):
            outputs = convolution(blocks, edge_sh, of_edges, senders, receivers)
            first = torch.autograd.grad(sum(y.pow(3).sum() for y in outputs), variables, create_graph=True)
            product = sum((g * torch.cos(v.detach())).sum() for g, v in zip(first, variables, strict=True))
            results.append([*outputs, *first, *torch.autograd.grad(product, variables)])
    finally:
        torch.set_num_threads(before)
    for computed, expected in zip(results[1], results[0], strict=True):
        assert relative(computed, expected) < 1e-12
    for wrong, message in ((rows + 1, "indices of 500 rows"), (rows[1:], r"rows: expected int64 \[900\]")):
        with pytest.raises(RuntimeError, match=message):
            fused(blocks, edge_sh, Shared(weight, wrong.clamp(max=500)), senders, receivers)


def test_pairs_are_edges_and_their_reverse():
    radial = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [0.0, 0.0], [3.0, 5.0], [0.0, 0.0], [0.0, 0.0]])
    first, rows = pairs_of_rows(radial)
    assert first.tolist() == [0, 1, 3, 4, 5, 6]  # three are equal: not pairs; the first number alone does not count
    assert rows.tolist() == [0, 1, 0, 2, 3, 4, 5]
    first, rows = pairs_of_rows(radial[:0])
    assert first.numel() == rows.numel() == 0


def test_pairs_of_edges():
    senders, receivers = torch.tensor([1, 2, 0, 4, 0, 3]), torch.tensor([0, 0, 1, 3, 2, 4])
    first, rows = pairs_of_edges(senders, receivers)
    assert first.tolist() == [0, 1, 3]
    assert rows.tolist() == [0, 1, 0, 2, 1, 2]
    with pytest.raises(GraphError, match="EQ2140"):  # images of one atom
        pairs_of_edges(torch.tensor([0, 0]), torch.tensor([0, 0]))
    first, rows = pairs_of_edges(senders[:0], receivers[:0])
    assert first.numel() == rows.numel() == 0
    for wrong in (slice(0, 5), slice(0, 4), torch.tensor([0, 1, 2, 3, 4, 3]), torch.tensor([0, 0, 2, 2])):
        with pytest.raises(GraphError, match="EQ2140"):
            pairs_of_edges(senders[wrong], receivers[wrong])


def test_rows_are_taken_and_put():
    first, rows = torch.tensor([2, 1]), torch.tensor([0, 1, 0, 1])
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(TakeRows.apply(x, first, rows), x[first])
    assert torch.autograd.gradcheck(lambda x: TakeRows.apply(x, first, rows), (x,))
    assert torch.autograd.gradgradcheck(lambda x: TakeRows.apply(x, first, rows).pow(3), (x,))


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.0)], ids=["pairs", "symmetric"])
@pytest.mark.parametrize("family", [nequip, equiformer])
def test_shared_radial_networks_change_nothing(family, atoms):
    config = family.Config(species=("H", "C", "O", "Na", "Cl"), r_max=5.5, l_max=1, n_layers=2, n_channels=4)
    model = family.Model(config).double()
    assert any(isinstance(each, SharedRadial) for each in share_radial(fuse(copy.deepcopy(model))).modules())
    species = np.array([config.species.index(symbol) for symbol in atoms.symbols])
    structure = build_structure(atoms.positions, species, atoms.cell.array, atoms.pbc, config.r_max)
    edge_vector = edge_vectors(structure).requires_grad_(True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    results = []
    for each in (fuse(copy.deepcopy(model)), share_radial(fuse(model))):
        inputs = (structure.species, structure.senders, structure.receivers, edge_vector)
        parameters = [p for p in each.parameters() if p.requires_grad]
        energy = each(*inputs).sum()
        (gradient,) = torch.autograd.grad(energy, edge_vector, create_graph=True)
        # an edge and its reverse are one variable
        forces = torch.zeros_like(structure.positions).index_add(0, structure.receivers, gradient)
        forces = forces.index_add(0, structure.senders, -gradient)
        strain = edge_vector.detach().T @ gradient
        loss = forces.pow(2).sum() + strain.pow(2).sum()
        results.append([energy, forces, strain, *torch.autograd.grad(loss, parameters, allow_unused=True)])
    for computed, expected in zip(*results, strict=True):
        if expected is not None:
            scale = float(results[0][-1].abs().max())
            torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-11 * max(scale, 1.0))


def test_third_derivatives_are_refused():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    value = fused(blocks, edge_sh, edge_weight, senders, receivers)[0].pow(4).sum()
    for _ in range(2):
        (value,) = torch.autograd.grad(value, edge_weight, create_graph=True)
        value = value.pow(2).sum()
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(value, edge_weight)


def test_inputs_need_not_be_contiguous():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    sh, weight = edge_sh.detach().t().contiguous().t(), edge_weight.detach().t().contiguous().t()
    inputs = (blocks, sh.requires_grad_(True), weight.requires_grad_(True), senders, receivers)
    results = []
    for convolution in (reference, fused):
        value = sum(output.pow(2).sum() for output in convolution(*inputs))
        results.append(torch.autograd.grad(value, [*blocks, sh, weight]))
    for computed, expected in zip(results[1], results[0], strict=True):
        assert relative(computed, expected) < 1e-12
    x = torch.cat([block.flatten(1) for block in blocks], 1).detach()
    call = (x, edge_sh.detach(), edge_weight.detach(), None, senders, receivers, fused.kernel)
    torch.library.opcheck(torch.ops.eqff.convolve.default, call, test_utils=("test_schema", "test_faketensor"))


def test_gradgradcheck():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel, n_edges=3)

    def scalar(*variables):
        outputs = fused(list(variables[:3]), variables[3], variables[4], senders, receivers)
        return torch.stack([output.pow(2).sum() for output in outputs])

    assert torch.autograd.gradcheck(scalar, (*blocks, edge_sh, edge_weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(scalar, (*blocks, edge_sh, edge_weight), fast_mode=True)


@pytest.mark.parametrize(("n_atoms", "n_edges"), [(1, 0), (1, 3), (6, 0), (2, 1)])
def test_few_atoms_and_edges(n_atoms, n_edges):
    irreps, reference, fused = convolutions(*CASES[1])
    inputs = arguments(irreps, 2, reference.weight_numel, n_edges, n_atoms)
    for one, other in zip(fused(*inputs), reference(*inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_single_precision():
    irreps, reference, fused = convolutions(*CASES[3], dtype=torch.float32)
    inputs = arguments(irreps, 3, reference.weight_numel, 40, dtype=torch.float32)
    for one, other in zip(fused(*inputs), reference(*inputs), strict=True):
        assert one.dtype == torch.float32
        assert relative(one, other) < 3e-6


def test_wrong_input_is_refused():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    with pytest.raises(RuntimeError, match="sorted by receiver"):
        fused(blocks, edge_sh, edge_weight, senders, receivers.flip(0))
    for bad in (senders + N_ATOMS, senders - N_ATOMS):
        with pytest.raises(RuntimeError, match="indices of 6 atoms"):
            fused(blocks, edge_sh, edge_weight, bad, receivers)
    with pytest.raises(RuntimeError, match="radial: expected"):
        fused(blocks, edge_sh, edge_weight[:, 1:], senders, receivers)
    with pytest.raises(RuntimeError, match="one dtype"):
        fused(blocks, edge_sh.float(), edge_weight, senders, receivers)
    x = torch.cat([block.flatten(1) for block in blocks], 1)
    with pytest.raises(RuntimeError, match="grad_out: expected"):
        torch.ops.eqff.convolve_backward(x[:1], x, edge_sh, edge_weight, None, senders, receivers, fused.kernel, True)
    with pytest.raises(RuntimeError, match="not loaded"):
        torch.ops.eqff.convolve(blocks[0].flatten(1), edge_sh, edge_weight, None, senders, receivers, "unknown")


def test_nan_stays_visible():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    with torch.no_grad():
        edge_weight[0, 0] = float("nan")
    poisoned = [
        bool(out[receivers[0]].isnan().any()) for out in fused(blocks, edge_sh, edge_weight, senders, receivers)
    ]
    assert any(poisoned)


def test_threads_share_the_work_and_change_nothing():
    irreps, reference, fused = convolutions(*CASES[3])
    inputs = arguments(irreps, 3, reference.weight_numel, n_edges=9000, n_atoms=300)
    gradients = []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            value = sum(output.pow(2).sum() for output in fused(*inputs))
            gradients.append(torch.autograd.grad(value, [*inputs[0], inputs[1], inputs[2]]))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*gradients, strict=True):
        assert relative(three, one) < 1e-12


def test_operator_works_in_torchscript():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    x = torch.cat([block.flatten(1) for block in blocks], 1).detach()

    @torch.jit.script
    def energy(x: torch.Tensor, sh: torch.Tensor, w: torch.Tensor, j: torch.Tensor, i: torch.Tensor, kernel: str):
        return torch.ops.eqff.convolve(x, sh, w, None, j, i, kernel).pow(2).sum()

    for _ in range(3):
        scripted = energy(x, edge_sh, edge_weight, senders, receivers, fused.kernel)
        eager = torch.ops.eqff.convolve(x, edge_sh, edge_weight, None, senders, receivers, fused.kernel).pow(2).sum()
        gradients = [torch.autograd.grad(value, [edge_sh, edge_weight]) for value in (scripted, eager)]
        for one, other in zip(*gradients, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("family", [nequip, equiformer, escn, tfn, se3_transformer])
def test_fused_model_has_the_same_state(family):
    model = family.Model(family.Config(species=("H", "O"), n_layers=2, n_channels=4))
    assert list(share_radial(fuse(copy.deepcopy(model))).state_dict()) == list(model.state_dict())


LINEAR = {  # channels that fill vectors and some that do not; the last irrep of the input leads nowhere
    "block": (parse("64x0e + 7x1o + 33x2e"), parse("192x0e + 5x1o + 70x2e")),
    "species": (parse("64x0e + 7x1o + 33x2e"), parse("70x1o + 192x0e + 3x3o")),
    "shared": (parse("64x0e + 7x1o + 33x2e"), parse("70x1o + 192x0e + 3x3o")),  # one matrix for all species
}


def linear_maps(kind):
    irreps_in, irreps_out = LINEAR[kind]
    generator = torch.Generator().manual_seed(0)
    if kind != "block":
        return SpeciesLinear(irreps_in, irreps_out, 3, generator, shared=kind == "shared").double()
    return BlockLinear([b.n_channels for b in irreps_in], [b.n_channels for b in irreps_out], generator).double()


@pytest.mark.parametrize("n_atoms", [0, 1, 23])
@pytest.mark.parametrize("cut", ["joined", "segments", "apart"])
@pytest.mark.parametrize("kind", LINEAR)
def test_linear_maps_and_two_derivatives_are_those_of_the_reference(kind, cut, n_atoms):
    linear, (irreps_in, irreps_out) = linear_maps(kind), LINEAR[kind]
    generator = torch.Generator().manual_seed(1)
    shapes = [(block.irrep.dim, block.n_channels) for block in irreps_in]
    parts = [torch.randn(n_atoms, *shape, dtype=torch.float64, generator=generator) for shape in shapes]
    species = torch.randint(0, 3, (n_atoms,), generator=generator)
    layer = torch.nn.Module()
    layer.linear = copy.deepcopy(linear)
    kernel = fuse(layer).linear
    results = []
    for each in (linear, kernel):
        x = torch.cat([p.flatten() for p in parts] if cut == "segments" else [p.flatten(1) for p in parts], -1)
        x.requires_grad_(True)
        blocks = split_segments(x, n_atoms, shapes) if cut == "segments" else split_blocks(x, shapes)
        if cut == "apart":
            blocks = [block + 0.0 for block in blocks]
        assert cut == "apart" or n_atoms < 2 or whole(blocks) is x  # nothing is copied
        added = [torch.full((n_atoms, b.irrep.dim, b.n_channels), 0.1, dtype=torch.float64) for b in irreps_out]
        outputs = each(blocks, species, added) if kind != "block" else each(blocks)
        variables = [x, *each.weights]
        first = torch.autograd.grad(sum(y.pow(3).sum() for y in outputs), variables, create_graph=True)
        product = sum((g * torch.cos(variable.detach())).sum() for g, variable in zip(first, variables, strict=True))
        results.append([*outputs, *first, *torch.autograd.grad(product, variables)])
    for computed, expected in zip(*results, strict=True):
        torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12 * float(expected.detach().norm()))


def test_linear_maps_refuse_wrong_input():
    layer = torch.nn.Module()
    layer.linear = linear_maps("species")
    kernel = fuse(layer).linear
    blocks = [torch.zeros(4, b.irrep.dim, b.n_channels, dtype=torch.float64) for b in LINEAR["species"][0]]
    added = [torch.zeros(4, b.irrep.dim, b.n_channels, dtype=torch.float64) for b in LINEAR["species"][1]]
    with pytest.raises(RuntimeError, match="below 3"):
        kernel(blocks, torch.tensor([0, 1, 2, 3]), added)
    with pytest.raises(RuntimeError, match=r"species: expected int64 \[4\]"):
        kernel(blocks, torch.zeros(3, dtype=torch.int64), added)
    with pytest.raises(RuntimeError, match="of the dtype of x"):
        kernel([block.float() for block in blocks], torch.zeros(4, dtype=torch.int64), added)
    with pytest.raises(RuntimeError, match="as there are 3 matrices"):
        kernel(blocks, None, added)


def test_linear_operators_can_be_traced():
    x, weight, species = torch.randn(5, 7), torch.randn(2, 14), torch.tensor([0, 1, 1, 0, 1])
    for operator, call in (
        (torch.ops.eqff.linear.default, (x, weight, species, [1, 7, 2, 0, 0], 7, 2, False)),
        (torch.ops.eqff.linear_weight.default, (x, torch.randn(5, 2), species, [1, 7, 2, 0, 0], 7, 2, 2)),
    ):
        torch.library.opcheck(operator, call, test_utils=("test_schema", "test_faketensor"))
