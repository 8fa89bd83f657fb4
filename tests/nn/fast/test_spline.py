"""Radial splines against the networks they stand for, and the operator against its definition in plain ATen."""

import copy
import dataclasses

import pytest
import torch

from eqff.errors import ConfigError
from eqff.kernels import build
from eqff.models.nequip import Config, Model
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.spline import SplineBasis, spline_basis, spline_errors, spline_table, spline_values, tabulate
from eqff.nn.harmonics import SphericalHarmonics
from eqff.o3.irreps import parse, spherical_harmonics_irreps

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")


def relative(one, other):
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-300))


CONFIG = Config(species=("H", "O"), r_max=4.0, l_max=2, n_layers=2, n_channels=4, radial_hidden=(16,))


def model_inputs(seed=3, n_atoms=7, n_edges=25):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64, generator=generator))
    length = 0.8 + 3.4 * torch.rand(n_edges, 1, dtype=torch.float64, generator=generator)  # some beyond r_max
    receivers = torch.randint(0, n_atoms, (n_edges,), generator=generator).sort().values
    senders = torch.randint(0, n_atoms, (n_edges,), generator=generator)
    species = torch.randint(0, 2, (n_atoms,), generator=generator)
    return species, senders, receivers, (direction * length).requires_grad_(True)


def gradient(model, inputs):
    return torch.autograd.grad(model(*inputs).sum(), inputs[3])[0]


def test_splines_converge_with_the_fifth_power_of_the_distance_of_knots():
    model = Model(CONFIG).double().requires_grad_(False)
    exact = gradient(model, model_inputs())
    errors = [relative(gradient(tabulate(copy.deepcopy(model), 0.5, n), model_inputs()), exact) for n in (16, 32, 64)]
    assert errors[2] < 1e-5
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    found = spline_errors(model, 0.5, 64)
    assert found["spline_value_error"] < 1e-6
    assert found["spline_slope_error"] < 1e-5
    assert found["spline_curvature_error"] < 1e-3


class Layer(torch.nn.Module):
    """The least that `tabulate` works on."""

    def __init__(self, radial, convolution):
        super().__init__()
        self.radial, self.convolution = radial, convolution


class Layers(torch.nn.Module):
    def __init__(self, basis, layer):
        super().__init__()
        self.basis, self.layer = basis, layer


def test_operator_is_its_definition():
    n_edges, n_atoms = 14, 6
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(True)

    irreps = parse("3x0e + 17x1o + 1x2e")
    reference = TensorProductConvolution(irreps, spherical_harmonics_irreps(2), [block.irrep for block in irreps])
    basis = Model(CONFIG).double().basis
    network = torch.nn.Linear(8, reference.weight_numel, bias=False).double()
    table = spline_table(basis, network, SplineBasis(0.5, 4.0, 32))
    model = tabulate(Layers(basis, Layer(network, copy.deepcopy(reference))), 0.5, 32)

    blocks = [numbers(n_atoms, block.irrep.dim, block.n_channels) for block in irreps]
    senders = torch.randint(0, n_atoms, (n_edges,), generator=generator)
    receivers = torch.randint(0, n_atoms, (n_edges,), generator=generator).sort().values
    direction = torch.nn.functional.normalize(numbers(n_edges, 3).detach())
    edge_sh = SphericalHarmonics(2)(direction).requires_grad_(True)
    r = (0.6 + 3.9 * torch.rand(n_edges, dtype=torch.float64, generator=generator)).requires_grad_(True)

    weight, _, _ = spline_values(table, r.clamp(max=4.0), SplineBasis(0.5, 4.0, 32))
    expected = reference(blocks, edge_sh, weight, senders, receivers)
    computed = model.layer.convolution(blocks, edge_sh, model.basis(r.unsqueeze(1)), senders, receivers)
    for one, other in zip(computed, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    variables = [*blocks, edge_sh, r]
    results = (computed, expected)
    gradients = [torch.autograd.grad(sum(o.pow(2).sum() for o in outputs), variables) for outputs in results]
    for one, other in zip(*gradients, strict=True):
        assert relative(one, other) < 1e-11


def test_second_derivatives_are_refused():
    model, inputs = tabulate(Model(CONFIG).double(), 0.5, 32), model_inputs()
    (first,) = torch.autograd.grad(model(*inputs).sum(), inputs[3], create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(first.pow(2).sum(), inputs[3])


def test_splines_end_with_two_derivatives_at_r_max():
    model = Model(CONFIG).double()
    knots = SplineBasis(0.5, 4.0, 100)
    table = spline_table(model.basis, model.layers[0].radial, knots)
    assert torch.equal(table[-1], torch.zeros_like(table[-1]))
    for order, bound in zip(
        spline_values(table, torch.tensor([4.0 - 1e-9]).double(), knots), (1e-20, 1e-14, 1e-5), strict=True
    ):
        assert float(order.abs().max()) < bound
    for order in spline_values(table, torch.linspace(0.5, 3.99, 7).double(), knots):
        assert bool(order.isfinite().all())
    places = knots(torch.tensor([[0.1], [0.5], [3.9999], [4.0], [7.0]], dtype=torch.float64))
    assert places[:, 0].tolist() == [0, 0, 99, -1, -1]


def test_splines_of_xplor_have_a_curvature_on_either_side_of_its_start():
    """As exact as those of the polynomial envelope, also next to r_on and r_max, where the curvature jumps."""
    r_on = 3.1
    model = Model(dataclasses.replace(CONFIG, r_on=r_on)).double().requires_grad_(False)
    found = spline_errors(model, 0.5, 64)
    assert found["spline_value_error"] < 1e-6
    assert found["spline_slope_error"] < 1e-5
    assert found["spline_curvature_error"] < 1e-3
    errors = [
        relative(gradient(tabulate(copy.deepcopy(model), 0.5, n), model_inputs()), gradient(model, model_inputs()))
        for n in (16, 32, 64)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    knots = spline_basis(model.basis, 0.5, 64)
    table = spline_table(model.basis, model.layers[0].radial, knots)
    below, above = (
        spline_values(table, torch.tensor([r], dtype=torch.float64), knots) for r in (r_on - 1e-9, r_on + 1e-9)
    )
    for order, bound in ((0, 1e-7), (1, 1e-6)):
        assert relative(below[order], above[order]) < bound
    assert relative(below[2], above[2]) > 0.01
    places = knots(torch.tensor([[0.5], [r_on - 1e-9], [r_on + 1e-9], [3.999], [4.0]], dtype=torch.float64))
    assert places[:, 0].tolist() == [0, knots.n_below - 1, knots.n_below + 1, 64, -1]


def test_a_start_below_the_first_knot_needs_no_second_one():
    r = torch.linspace(0.1, 4.1, 50, dtype=torch.float64).unsqueeze(1)
    assert torch.equal(SplineBasis(1.0, 4.0, 32, r_on=0.9)(r), SplineBasis(1.0, 4.0, 32)(r))


def test_a_model_without_radial_networks_is_refused():
    with pytest.raises(ConfigError, match="EQ1090"):
        tabulate(torch.nn.Linear(2, 2), 0.5, 64)
