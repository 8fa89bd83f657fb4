"""SOAP against the algorithm written out for one matrix, and its bookkeeping."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from eqff.training.fit.soap import LARGEST, Soap

LR, BETA, INTERVAL = 0.05, 0.95, 3


def weights(shapes: Sequence[tuple[int, ...]], seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def walk(optimizer: Soap, parameters: list[nn.Parameter], gradients: Sequence[Sequence[Tensor | None]]) -> None:
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.step()


def random_gradients(parameters: list[nn.Parameter], n_steps: int, seed: int = 1) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(n_steps)]


def written_out(weight: Tensor, gradients: list[Tensor]) -> Tensor:
    """The paper's algorithm for one matrix whose sides both have a basis; rows <= columns."""
    weight = weight.clone()
    left, right = gradients[0] @ gradients[0].T, gradients[0].T @ gradients[0]
    q_left, q_right = torch.linalg.eigh(left)[1], torch.linalg.eigh(right)[1]
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients[1:], 1):
        left = BETA * left + (1 - BETA) * gradient @ gradient.T
        right = BETA * right + (1 - BETA) * gradient.T @ gradient
        mean = BETA * mean + (1 - BETA) * gradient
        square = BETA * square + (1 - BETA) * (q_left.T @ gradient @ q_right) ** 2
        inner = (q_left.T @ mean @ q_right) / (1 - BETA**t) / ((square / (1 - BETA**t)).sqrt() + 1e-8)
        weight -= LR * q_left @ inner @ q_right.T
        if t % INTERVAL == 0:
            q_left, q_right = torch.linalg.qr(left @ q_left)[0], torch.linalg.qr(right @ q_right)[0]
    return weight


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_one_matrix_is_the_algorithm_written_out(shape: tuple[int, int]) -> None:
    (parameter,) = weights([shape])
    gradients = random_gradients([parameter], 12)
    tall = shape[0] > shape[1]
    start = parameter.detach().T if tall else parameter.detach()
    expected = written_out(start, [g[0].T.contiguous() if tall else g[0] for g in gradients])
    walk(Soap([parameter], LR, interval=INTERVAL), [parameter], gradients)
    torch.testing.assert_close(parameter.detach(), expected.T if tall else expected, rtol=1e-9, atol=1e-12)


def test_the_longer_side_keeps_its_basis_where_it_is_long() -> None:
    (parameter,) = weights([(4, LARGEST + 1)])
    gradients = random_gradients([parameter], 8)
    optimizer = Soap([parameter], LR, interval=INTERVAL)
    # permuting the columns of all gradients permutes the columns of the step: no basis mixes them
    order = torch.randperm(LARGEST + 1, generator=torch.Generator().manual_seed(2))
    other = nn.Parameter(parameter.detach()[:, order].clone())
    walk(optimizer, [parameter], gradients)
    walk(Soap([other], LR, interval=INTERVAL), [other], [[g[0][:, order]] for g in gradients])
    torch.testing.assert_close(other.detach(), parameter.detach()[:, order], rtol=1e-8, atol=1e-11)
    assert not any("columns" in name for name in optimizer.state[parameter])


def test_matrices_of_a_stack_do_not_mix() -> None:
    together = weights([(3, 6, 6), (6, 6), (2, 2, 6, 6)])  # square: else part of the first basis is arbitrary
    apart = [nn.Parameter(m.clone()) for p in together for m in p.detach().reshape(-1, *p.shape[-2:])]
    gradients = random_gradients(together, 9)
    walk(Soap(together, LR, interval=INTERVAL), together, gradients)
    single = [[m for g in step for m in g.reshape(-1, *g.shape[-2:])] for step in gradients]
    for k, parameter in enumerate(apart):
        walk(Soap([parameter], LR, interval=INTERVAL), [parameter], [[step[k]] for step in single])
    found = [m for p in together for m in p.detach().reshape(-1, *p.shape[-2:])]
    for one, other in zip(found, apart, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-9, atol=1e-12)


def test_vectors_and_thin_matrices_are_adams_after_the_first_look() -> None:
    ours = weights([(5,), (3, 8), ()])
    theirs = copy.deepcopy(ours)
    gradients = random_gradients(ours, 6)
    walk(Soap(ours, LR), ours, gradients)
    adam = torch.optim.Adam(theirs, LR, betas=(0.95, 0.95))
    walk(adam, theirs, gradients[1:])  # type: ignore[arg-type]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-9, atol=1e-12)


def test_it_goes_on_from_a_saved_state_to_the_bit() -> None:
    ours = weights([(6, 9), (9, 6), (4,), (7, 7)])
    gradients = random_gradients(ours, 14)
    optimizer = Soap(ours, LR, interval=INTERVAL)
    walk(optimizer, ours, gradients[:7])
    resumed = copy.deepcopy(ours)
    other = Soap(resumed, LR, interval=INTERVAL)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walk(optimizer, ours, gradients[7:])
    walk(other, resumed, gradients[7:])
    for one, two in zip(ours, resumed, strict=True):
        assert torch.equal(one, two)


def test_without_gradients_nothing_moves() -> None:
    parameters = weights([(6, 9), (5,)])
    optimizer = Soap(parameters, LR)
    before = copy.deepcopy(parameters)
    walk(optimizer, parameters, [[None, None]] * 3)
    assert not optimizer.state
    for one, other in zip(parameters, before, strict=True):
        assert torch.equal(one, other)


def test_a_weight_that_never_has_a_gradient_stays_and_is_finite() -> None:
    parameters = weights([(6, 9), (6, 9), (5,), (4,)])
    before = copy.deepcopy(parameters)
    gradients = [[g[0], None, g[2], None] for g in random_gradients(parameters, 12)]
    walk(Soap(parameters, LR, interval=INTERVAL), parameters, gradients)
    assert torch.equal(parameters[1], before[1])
    assert torch.equal(parameters[3], before[3])
    assert not torch.equal(parameters[0], before[0])
    assert all(bool(p.isfinite().all()) for p in parameters)


def test_badly_scaled_least_squares_are_solved_faster_than_by_adam() -> None:
    generator = torch.Generator().manual_seed(5)
    scale = torch.logspace(0, -2, 12, dtype=torch.float64)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    design = scale.unsqueeze(1) * mixing
    target = torch.randn(12, 12, generator=generator, dtype=torch.float64)

    def residual(make: type[torch.optim.Optimizer]) -> float:
        weight = nn.Parameter(torch.zeros(12, 12, dtype=torch.float64))
        optimizer = make([weight], lr=0.05)  # type: ignore[call-arg]
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 300)
        for _ in range(300):
            optimizer.zero_grad()
            (design @ (weight - target)).square().sum().backward()
            optimizer.step()
            schedule.step()
        return float((design @ (weight.detach() - target)).square().sum())

    assert residual(Soap) < 0.2 * residual(torch.optim.Adam)
