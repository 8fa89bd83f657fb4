"""Attention weights against the softmax of torch, a sum by hand, and what must not change at the cut-off."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from eqff.nn.attention import attention_weights

RECEIVERS = torch.tensor([2, 0, 0, 3, 2, 0, 3])  # in any order; nobody looks at atom 1
N_ATOMS, N_HEADS = 4, 3


def example(seed=0, n_edges=7):
    generator = torch.Generator().manual_seed(seed)
    score = 2.0 * torch.randn(n_edges, N_HEADS, dtype=torch.float64, generator=generator)
    return score, 0.05 + torch.rand(n_edges, 1, dtype=torch.float64, generator=generator)


def close(one, other, tolerance=1e-14):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def by_hand(score, envelope, receivers, smooth):
    """Atom by atom."""
    weights = torch.zeros_like(score)
    for i in range(N_ATOMS):
        mine = receivers == i
        if smooth:
            part = envelope[mine] * score[mine].exp()
            weights[mine] = part / (1.0 + part.sum(0))
        else:
            weights[mine] = torch.softmax(score[mine], 0)
    return weights


@pytest.mark.parametrize("smooth", [True, False])
def test_weights_are_those_of_the_formula(smooth):
    score, envelope = example()
    close(attention_weights(score, envelope, RECEIVERS, N_ATOMS, smooth), by_hand(score, envelope, RECEIVERS, smooth))


@pytest.mark.parametrize("smooth", [True, False])
@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-600.0, 600.0), seed=st.integers(0, 1000))
def test_scores_of_any_size(smooth, shift, seed):
    """Where exp(s) itself would overflow or vanish."""
    score, envelope = example(seed)
    weights = attention_weights(score + shift, envelope, RECEIVERS, N_ATOMS, smooth)
    assert torch.isfinite(weights).all()
    total = torch.zeros(N_ATOMS, N_HEADS, dtype=torch.float64).index_add(0, RECEIVERS, weights)[[0, 2, 3]]
    if smooth:
        close(weights, by_hand(score + shift, envelope, RECEIVERS, True), 1e-13)
        assert float(total.max()) <= 1.0 + 1e-14
    else:
        close(weights, attention_weights(score, envelope, RECEIVERS, N_ATOMS, False), 1e-12)
        close(total, torch.ones_like(total))


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("value", [0.3, 1e4, -1e4])
def test_an_edge_beyond_the_cutoff_weighs_nothing_and_changes_nothing(smooth, value):
    score, envelope = example()
    more, zero = torch.full((1, N_HEADS), value, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for receiver in (0, 1):  # beside other edges, and alone
        arguments = [torch.cat([score, more]).requires_grad_(True), torch.cat([envelope, zero])]
        receivers = torch.cat([RECEIVERS, torch.tensor([receiver])])
        weights = attention_weights(*arguments, receivers, N_ATOMS, smooth)
        assert torch.equal(weights[-1], torch.zeros_like(weights[-1]))
        assert torch.equal(weights[:-1], attention_weights(score, envelope, RECEIVERS, N_ATOMS, smooth))
        (gradient,) = torch.autograd.grad(weights.square().sum(), arguments[0])
        assert torch.equal(gradient[-1], torch.zeros_like(gradient[-1]))
        assert torch.isfinite(gradient).all()


def test_the_last_neighbour_leaves_smoothly_only_in_the_smooth_form():
    score, receivers = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([0])
    for envelope in (1e-3, 1e-9):
        u = torch.tensor([[envelope]], dtype=torch.float64)
        smooth = attention_weights(score, u, receivers, 1, True)
        close(smooth, u * score.exp() / (1 + u * score.exp()), 1e-16)
        close(attention_weights(score, u, receivers, 1, False), torch.ones(1, 1, dtype=torch.float64))


def test_no_edges():
    empty = torch.zeros(0, N_HEADS, dtype=torch.float64)
    for smooth in (True, False):
        weights = attention_weights(empty, empty[:, :1], torch.zeros(0, dtype=torch.int64), N_ATOMS, smooth)
        assert weights.shape == (0, N_HEADS)


@pytest.mark.parametrize("smooth", [True, False])
def test_two_derivatives(smooth):
    score, envelope = (x.requires_grad_(True) for x in example())

    def weights(score, envelope):
        return attention_weights(score, envelope, RECEIVERS, N_ATOMS, smooth)

    assert torch.autograd.gradcheck(weights, [score, envelope])
    assert torch.autograd.gradgradcheck(weights, [score, envelope])


@pytest.mark.parametrize("smooth", [True, False])
def test_scripted_and_traced(smooth):
    scripted = torch.jit.script(attention_weights)

    def weights(score, envelope, receivers):
        return attention_weights(score, envelope, receivers, N_ATOMS, smooth)

    traced = make_fx(weights, tracing_mode="symbolic")(*example(1, 5), RECEIVERS[:5])
    for n_edges in (5, 7, 3):
        score, envelope = example(2, n_edges)
        expected = weights(score, envelope, RECEIVERS[:n_edges])
        close(traced(score, envelope, RECEIVERS[:n_edges]), expected)
        close(scripted(score, envelope, RECEIVERS[:n_edges], N_ATOMS, smooth), expected)


def test_float32_takes_an_envelope_in_float64():
    score, envelope = example()
    weights = attention_weights(score.float(), envelope, RECEIVERS, N_ATOMS, True)
    assert weights.dtype == torch.float32
    close(weights.double(), attention_weights(score, envelope, RECEIVERS, N_ATOMS, True), 1e-6)
