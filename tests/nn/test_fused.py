"""Compiled kernels against the ATen reference, their derivatives, and radial splines against the networks."""

import copy

import pytest
import torch

from eqff.kernels import build
from eqff.models.nequip import Config, Model
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fused import fuse, specialise
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.linear import SpeciesLinear
from eqff.o3.irreps import Block, Irrep, parse, spherical_harmonics_irreps

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
    call = (x, edge_sh.detach(), edge_weight.detach(), senders, receivers, fused.kernel)
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
        torch.ops.eqff.convolve_backward(x[:1], x, edge_sh, edge_weight, senders, receivers, fused.kernel)
    with pytest.raises(RuntimeError, match="not loaded"):
        torch.ops.eqff.convolve(blocks[0].flatten(1), edge_sh, edge_weight, senders, receivers, "unknown")


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
        return torch.ops.eqff.convolve(x, sh, w, j, i, kernel).pow(2).sum()

    for _ in range(3):
        scripted = energy(x, edge_sh, edge_weight, senders, receivers, fused.kernel)
        eager = torch.ops.eqff.convolve(x, edge_sh, edge_weight, senders, receivers, fused.kernel).pow(2).sum()
        gradients = [torch.autograd.grad(value, [edge_sh, edge_weight]) for value in (scripted, eager)]
        for one, other in zip(*gradients, strict=True):
            assert torch.equal(one, other)


def test_fused_model_has_the_same_state():
    model = Model(Config(species=("H", "O"), l_max=2, n_layers=2, n_channels=4, radial_hidden=(16,)))
    assert fuse(copy.deepcopy(model)).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(("dim", "n_in", "n_out"), [(1, 64, 192), (3, 7, 5), (5, 32, 70)])
def test_species_linear_is_one_matrix_per_species(dim, n_in, n_out):
    generator = torch.Generator().manual_seed(0)
    linear = SpeciesLinear((Block(Irrep(0, 1), n_in),), (Block(Irrep(0, 1), n_out),), 3, generator).double()
    species = torch.randint(0, 3, (23,), generator=generator)
    x = torch.randn(23, dim, n_in, dtype=torch.float64, generator=generator, requires_grad=True)
    added = torch.randn(23, dim, n_out, dtype=torch.float64, generator=generator)
    layer = torch.nn.Module()
    layer.linear = linear.requires_grad_(False)
    kernel = specialise(layer).linear
    results = []
    for each in (linear, kernel):
        (y,) = each([x], species, [added])
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        results.append((y, first, torch.autograd.grad(first.pow(2).sum(), x)[0]))
    for computed, expected in zip(results[1], results[0], strict=True):
        assert relative(computed, expected) < 1e-12
    with pytest.raises(RuntimeError, match="below 3"):
        kernel([x], species + 1, [added])
