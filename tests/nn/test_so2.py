"""Layers in the frame of an edge; above all, that they are tensor products with the harmonics of the edge."""

import functools
import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.so2 import SO2Gate, SO2Linear, join_orders, split_orders
from eqff.o3.coupling import wigner_3j
from eqff.o3.edge_frames import helper_axis_frame
from eqff.o3.wigner import order_rows, wigner_matrices, wigner_recursion

TABLES = [wigner_recursion(2), wigner_recursion(3)]  # tested against harmonics in tests/o3
coupling = functools.cache(wigner_3j)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directions(n, seed=3):
    u = random(n, 3, seed=seed)
    u[:3] = torch.tensor([[0.0, 1, 0], [0.0, -1, 0], [1e-7, -1, 1e-9]])  # the poles as well
    return u / u.norm(dim=1, keepdim=True)


def linear(l_max, m_max, n_in=3, n_out=2, n_extra=0, reflections=False):
    generator = torch.Generator().manual_seed(1)
    return SO2Linear(n_in, n_out, l_max, m_max, n_extra, reflections, generator).to(torch.float64)


def apply(layer, x, u, l_max, m_max, n_out):
    """Features [n, (l_max+1)^2, n_in] through a layer in the frame of u, direction or frame, and back."""
    rotation = EdgeRotation(l_max, m_max)
    turn = rotation(u) if u.dim() == 2 else rotation.rows(u)
    blocks = layer(split_orders(turn @ x, l_max, m_max))
    return (turn.transpose(1, 2) @ join_orders(blocks, n_out)).detach()


def couple(layer, l_max, n_in, n_out, weights):
    """Set an SO(2) layer to the tensor product of `weights`, (l1, l2, l3) -> [n_in, n_out].

    w~_m = sum_l2 w_(l1 l2 l3) C_(l1 m)(l2 0)^(l3 m) Y_l2(y), imaginary from C_(l1 -m)(l2 0)^(l3 m).  Paper, eq. 15.
    """
    parts = [torch.zeros(l_max + 1 - m, n_in, 2, l_max + 1 - m, n_out).double() for m in range(l_max + 1)]
    for (l1, l2, l3), weight in weights.items():
        table = coupling(l1, l2, l3)[:, l2] * math.sqrt(2 * l2 + 1)  # Y_l2(y) has m = 0 only
        for m in range(min(l1, l3) + 1):
            parts[m][l1 - m, :, 0, l3 - m] += weight * table[l1 + m, l3 + m]
            parts[m][l1 - m, :, 1, l3 - m] += weight * table[l1 + m, l3 - m] * (m > 0)
    with torch.no_grad():
        for m, (parameter, part) in enumerate(zip(layer.weights, parts, strict=True)):
            kept = part[:, :, :1] if m == 0 or layer.reflections else part
            parameter.copy_(kept.reshape(parameter.shape) / layer.scales[m])


@pytest.mark.parametrize("reflections", [False, True])
@pytest.mark.parametrize("l_max", [1, 2, 3, 6])
def test_so2_linear_with_clebsch_gordan_couplings_is_the_full_tensor_product(l_max, reflections):
    """sum_(l1 l2) w (x^(l1) (x) Y^(l2)(u))^(l3): e3nn's harmonics, every path, degrees l2 up to 2 l_max."""
    n_in, n_out = 2, 2
    paths = [
        (l1, l2, l3) for l1 in range(l_max + 1) for l3 in range(l_max + 1) for l2 in range(abs(l1 - l3), l1 + l3 + 1)
    ]
    if reflections:  # natural parity
        paths = [path for path in paths if sum(path) % 2 == 0]
    weights = {path: random(n_in, n_out, seed=k) for k, path in enumerate(paths)}
    layer = linear(l_max, l_max, n_in, n_out, reflections=reflections)
    couple(layer, l_max, n_in, n_out, weights)
    u, x = directions(8), random(8, (l_max + 1) ** 2, n_in)
    expected = torch.zeros(8, (l_max + 1) ** 2, n_out).double()
    for (l1, l2, l3), weight in weights.items():
        harmonics = o3.spherical_harmonics(l2, u, False, "component")
        product = torch.einsum("nac,nb,abd->ndc", x[:, l1 * l1 : (l1 + 1) ** 2], harmonics, coupling(l1, l2, l3))
        expected[:, l3 * l3 : (l3 + 1) ** 2] += product @ weight
    found = apply(layer, x, u, l_max, l_max, n_out)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-12


@pytest.mark.parametrize("m_max", [0, 1, 3])
@pytest.mark.parametrize("reflections", [False, True])
def test_layers_commute_with_rotations_and_roll(m_max, reflections):
    l_max = 3
    layer, gate = linear(l_max, m_max, 3, 2, 6, reflections), SO2Gate(2, l_max)
    both = torch.nn.Sequential(layer, gate)
    u, x = directions(12), random(12, 16, 3)
    still = apply(both, x, u, l_max, m_max, 2)
    for turn in torch.tensor(Rotation.random(3, random_state=0).as_matrix()):
        matrix = torch.block_diag(*[d[0] for d in wigner_matrices(turn[None], TABLES)[: l_max + 1]])
        moved = apply(both, matrix @ x, u @ turn.T, l_max, m_max, 2)
        torch.testing.assert_close(moved, matrix @ still, rtol=0, atol=1e-11)
    # frames turned about the edge
    roll = torch.tensor(Rotation.from_rotvec(np.linspace(0.1, 6.0, 12)[:, None] * [0, 1, 0]).as_matrix())
    rolled = apply(both, x, roll @ helper_axis_frame(u), l_max, m_max, 2)
    torch.testing.assert_close(rolled, still, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reflections", [False, True])
def test_only_without_imaginary_weights_is_inversion_a_symmetry(reflections):
    l_max = 2
    layer = linear(l_max, 2, reflections=reflections)
    parity = torch.tensor([(-1.0) ** l for l in range(l_max + 1) for _ in range(2 * l + 1)]).double()[:, None]
    u, x = directions(9), random(9, 9, 3)
    difference = apply(layer, parity * x, -u, l_max, 2, 2) - parity * apply(layer, x, u, l_max, 2, 2)
    if reflections:
        assert float(difference.abs().max()) < 1e-13
    else:
        assert float(difference.abs().max()) > 0.1


def test_truncated_orders_are_rows_of_the_whole_matrix():
    u = directions(10)
    whole, cut = EdgeRotation(4, 4)(u), EdgeRotation(4, 2)(u)
    kept = [order_rows(4, 4).index(row) for row in order_rows(4, 2)]
    assert torch.equal(whole[:, kept], cut)
    by_degree = sorted(range(25), key=order_rows(4, 4).__getitem__)
    for l in range(5):
        block = whole[:, by_degree][:, l * l : (l + 1) ** 2]
        assert float(block[:, :, : l * l].abs().sum() + block[:, :, (l + 1) ** 2 :].abs().sum()) == 0.0


def test_splitting_and_joining_are_inverse_and_work_without_edges():
    for n in (0, 1, 5):
        x = random(n, 19, 3)  # l_max 4, m_max 2
        blocks = split_orders(x, 4, 2)
        assert [tuple(block.shape) for block in blocks] == [(n, 15), (n, 2, 12), (n, 2, 9)]
        assert torch.equal(join_orders(blocks, 3), x)
        assert [len(block) for block in linear(4, 2)(blocks)] == [n] * 3


def test_gate_by_hand():
    gate = SO2Gate(1, 1)
    out = gate([torch.tensor([[0.5, 2.0, 3.0]]), torch.tensor([[[4.0], [5.0]]])])
    half = 1 / (1 + math.exp(-0.5))
    torch.testing.assert_close(out[0], torch.tensor([[2 / (1 + math.exp(-2.0)), 3 * half]]))
    torch.testing.assert_close(out[1], torch.tensor([[[4 * half], [5 * half]]]))
