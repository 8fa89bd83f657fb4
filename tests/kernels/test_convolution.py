"""The convolution against its own equation, written as a loop over edges."""

import pytest
import torch

from eqff.kernels.convolution import convolve

SEGMENTS = [(1, 2), (3, 1), (5, 3)]  # (2 l3 + 1, n_paths)
N_ATOMS, N_CHANNELS = 5, 2


def inputs(dim, n_edges=7, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    rows, paths = sum(d * n for d, n in SEGMENTS), sum(n for _, n in SEGMENTS)
    senders = torch.randint(0, N_ATOMS, (n_edges,), generator=generator)
    receivers = torch.randint(0, N_ATOMS - 1, (n_edges,), generator=generator)  # the last atom receives nothing
    features = numbers(N_ATOMS, dim, N_CHANNELS)
    return features, numbers(n_edges, rows, dim), numbers(n_edges, paths * N_CHANNELS), senders, receivers


def loop(features, edge_coupling, edge_weight, senders, receivers):
    outputs, row, path = [], 0, 0
    for dim, n_paths in SEGMENTS:
        total = torch.zeros(N_ATOMS, dim, n_paths, N_CHANNELS, dtype=torch.float64)
        coupling = edge_coupling[:, row : row + dim * n_paths].reshape(len(senders), dim, n_paths, features.shape[1])
        weight = edge_weight.reshape(len(senders), edge_weight.shape[1] // N_CHANNELS, N_CHANNELS)[
            :, path : path + n_paths
        ]
        for edge, (sender, receiver) in enumerate(zip(senders.tolist(), receivers.tolist(), strict=True)):
            total[receiver] += weight[edge] * torch.einsum("kpm,mc->kpc", coupling[edge], features[sender])
        outputs.append(total.flatten(2))
        row, path = row + dim * n_paths, path + n_paths
    return outputs


@pytest.mark.parametrize("dim", [1, 3, 5])
@pytest.mark.parametrize("n_edges", [0, 1, 7])
def test_equation(dim, n_edges):
    features, edge_coupling, edge_weight, senders, receivers = inputs(dim, n_edges)
    outputs = convolve(features, edge_coupling, edge_weight, SEGMENTS, senders, receivers)
    expected = loop(features, edge_coupling, edge_weight, senders, receivers)
    assert len(outputs) == len(SEGMENTS)
    for output, reference in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, reference, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim", [1, 3])
def test_first_and_second_derivatives(dim):
    features, edge_coupling, edge_weight, senders, receivers = inputs(dim, 3)

    def scalar(*tensors):
        outputs = convolve(tensors[0], tensors[1], tensors[2], SEGMENTS, senders, receivers)
        return torch.stack([output.pow(3).sum() for output in outputs])

    arguments = [tensor.requires_grad_(True) for tensor in (features, edge_coupling, edge_weight)]
    assert torch.autograd.gradcheck(scalar, arguments)
    assert torch.autograd.gradgradcheck(scalar, arguments)


def test_order_of_edges_does_not_matter():
    features, edge_coupling, edge_weight, senders, receivers = inputs(3, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    straight = convolve(features, edge_coupling, edge_weight, SEGMENTS, senders, receivers)
    shuffled = convolve(features, edge_coupling[order], edge_weight[order], SEGMENTS, senders[order], receivers[order])
    for one, other in zip(straight, shuffled, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_scripted_equals_eager():
    scripted = torch.jit.script(convolve)
    for n_edges in (7, 0, 3, 7):
        arguments = inputs(3, n_edges)
        eager = convolve(*arguments[:3], SEGMENTS, *arguments[3:])
        for one, other in zip(eager, scripted(*arguments[:3], SEGMENTS, *arguments[3:]), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
