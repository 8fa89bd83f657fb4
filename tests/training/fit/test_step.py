"""The compiled step is the eager step; the gradient is that of finite differences of the loss."""

import copy
import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import structure

from eqff.errors import ConfigError
from eqff.graph import Structure, batch_structures
from eqff.kernels import build
from eqff.models import equiformer, nequip
from eqff.models.nequip import Config, Model
from eqff.neighbors import build_structure
from eqff.nn.fast.fused import fuse, share_radial
from eqff.training.config import LossConfig
from eqff.training.fit.interruption import LastCheckpoint
from eqff.training.fit.losses import Errors, Labels, complete, loss, loss_weights
from eqff.training.fit.step import CompiledStep, EagerStep
from eqff.training.fit.stopped import OutOfTime, Stopped, time_limit

CONFIG = Config(species=("H", "O"), r_max=4.0, l_max=1, n_layers=2, n_channels=4, radial_hidden=(8,))


def batch(n_graphs: int = 2, turned: bool = False) -> tuple[Structure, Labels]:
    """Water, rattled; turned: with its atoms in another order."""
    generator = torch.Generator().manual_seed(1)
    order = [1, 0, 2] if turned else [0, 1, 2]
    water = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]], dtype=torch.float64)[order]
    structures = []
    for _ in range(n_graphs):
        positions = water + 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        no_cell = torch.zeros(3, 3).numpy()
        species = torch.tensor([1, 0, 0])[order].numpy()
        structures.append(build_structure(positions.numpy(), species, no_cell, no_cell[0] > 0, CONFIG.r_max))
    energy = torch.randn(n_graphs, generator=generator, dtype=torch.float64)
    forces = torch.randn(3 * n_graphs, 3, generator=generator, dtype=torch.float64)
    return batch_structures(structures), complete(energy, forces)


def value_and_gradients(step_type: type, model: Model) -> tuple[torch.Tensor, list[torch.Tensor]]:
    config = LossConfig(kind="huber", energy_per_atom=2.0)
    value = step_type(model, config)(*batch(), loss_weights(config, 0.0))
    value.backward()
    return value.detach(), [p.grad for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("step_type", [EagerStep, CompiledStep])
def test_compiled_step_and_compiled_kernels_change_nothing(step_type: type) -> None:
    n_layers = 1 if step_type is CompiledStep else 2  # compiling takes seconds
    model = Model(replace(CONFIG, n_layers=n_layers)).to(torch.float64)
    expected, gradients = value_and_gradients(EagerStep, copy.deepcopy(model))
    if build.compiler() is not None:
        fuse(model)
    value, computed = value_and_gradients(step_type, model)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)
    for one, other in zip(computed, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize(
    ("family", "inductor"),
    [(nequip, False), (equiformer, False), pytest.param(nequip, True, marks=pytest.mark.slow)],
    ids=["nequip", "equiformer", "nequip, inductor"],
)
def test_shared_radial_networks_do_not_change_the_compiled_step(
    family: Any, inductor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With derivatives by `index_add` torch 2.13 miscompiles five layers, not two."""
    if not inductor:
        monkeypatch.setattr(torch, "compile", lambda program, **options: program)
    config = LossConfig(kind="huber", energy_per_atom=2.0)
    weights = loss_weights(config, 0.0)
    n_layers = 5 if inductor else 2
    model = family.Model(
        family.Config(species=("H", "O"), r_max=4.0, l_max=1, n_layers=n_layers, n_channels=4)
    ).double()
    eager, step = EagerStep(copy.deepcopy(model), config), CompiledStep(share_radial(fuse(model)), config)
    for turned in (False, True):  # pairs are those of each batch
        inputs = batch(turned=turned)
        expected, value = eager(*inputs, weights), step(*inputs, weights)
        assert step.instead is None
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=0.0)
        found = torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad])
        others = torch.autograd.grad(
            expected, [p for p in eager.model.parameters() if p.requires_grad], allow_unused=True
        )
        size = max(float(gradient.abs().max()) for gradient in found)
        for one, other in zip(found, others, strict=True):
            torch.testing.assert_close(
                one, torch.zeros_like(one) if other is None else other, rtol=1e-8, atol=1e-12 * size
            )


@pytest.mark.slow
def test_weights_that_lead_nowhere_do_not_stop_the_compiled_step() -> None:
    model = Model(replace(CONFIG, parity="both", n_layers=3)).to(torch.float64)
    expected, gradients = value_and_gradients(EagerStep, copy.deepcopy(model))
    assert any(gradient is None for gradient in gradients)
    value, computed = value_and_gradients(CompiledStep, model)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)
    for one, other in zip(computed, gradients, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=1e-9, atol=1e-13)


def test_gradient_of_the_loss_is_its_finite_difference() -> None:
    config, inputs = LossConfig(energy_per_atom=3.0), batch()
    weights = loss_weights(config, 0.0)
    model = Model(CONFIG).to(torch.float64)
    step = EagerStep(model, config)
    step(*inputs, weights).backward()
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]
    trained = [(p, d) for p, d in zip(model.parameters(), directions, strict=True) if p.requires_grad]
    slope = sum(float((p.grad * d).sum()) for p, d in trained)
    values = []
    for shift in (1e-5, -2e-5):
        with torch.no_grad():
            for p, d in trained:
                p.add_(shift * d)
        values.append(float(step(*inputs, weights).detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_compiled_step_refuses_another_shape() -> None:
    config = LossConfig()
    step = CompiledStep(Model(CONFIG), config)
    step.program, step.shape = object(), (6, 12, 2)
    with pytest.raises(ConfigError, match="compile"):
        step(*batch(3), loss_weights(config, 0.0))


@pytest.mark.parametrize("wrong", [0, 1, None])
def test_a_compiled_step_that_is_wrong_is_not_used(
    wrong: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong in the loss, in one gradient, or not at all."""
    calls = []

    def compiled(program: Any, **options: Any) -> Any:
        def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
            calls.append(len(tensors))
            found = list(program(*tensors))
            for k in () if wrong is None else (wrong,):
                found[k] = found[k] * (1.0006 if k == 0 else -1.0)
            return found

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    model = Model(replace(CONFIG, parity="both", n_layers=3)).to(torch.float64)  # with weights that lead nowhere
    expected, gradients = value_and_gradients(EagerStep, copy.deepcopy(model))
    config = LossConfig(kind="huber", energy_per_atom=2.0)
    step = CompiledStep(model, config)
    for _ in range(2):
        model.zero_grad()
        value = step(*batch(), loss_weights(config, 0.0))
        value.backward()
    torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=0.0)
    for parameter, gradient in zip((p for p in model.parameters() if p.requires_grad), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-13)
    assert ("is not used" in caplog.text) == (wrong is not None)
    assert len(calls) == (1 if wrong is not None else 3)


def test_huber_is_quadratic_inside_and_linear_outside() -> None:
    config = LossConfig(kind="huber", huber_delta=0.1, forces=1.0, energy_per_atom=0.0)
    for force, expected in ((0.05, 0.05**2 / 0.2), (3.0, 3.0 - 0.05)):
        forces = torch.full((4, 3), force, dtype=torch.float64)
        difference = Errors(torch.zeros(1).double(), forces, torch.full((1,), 4.0).double())
        inputs = (
            structure(torch.eye(4, 3), [0, 0, 0, 0], r_list=0.1),
            complete(torch.zeros(1).double(), forces),
            loss_weights(config, 0.0),
        )
        assert float(loss(difference, *inputs, config)) == pytest.approx(expected, rel=1e-12)


def test_energy_weight_grows_geometrically() -> None:
    config = LossConfig(energy_per_atom=1.0, final_energy_per_atom=100.0)
    assert [float(loss_weights(config, x)[1]) for x in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 10.0, 100.0])


def test_near_the_time_limit_the_eager_step_is_used() -> None:
    model, config = Model(replace(CONFIG, n_layers=1)).to(torch.float64), LossConfig()
    step = CompiledStep(copy.deepcopy(model), config)
    step.deadline = time.monotonic() + 1.0
    weights = loss_weights(config, 0.0)
    assert step(*batch(), weights).item() == EagerStep(model, config)(*batch(), weights).item()
    assert isinstance(step.instead, EagerStep)
    assert not step.compiling


def test_the_time_limit_ends_a_compilation() -> None:
    with pytest.raises(OutOfTime), time_limit(time.monotonic() + 0.05):
        signal.pause()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    with time_limit(math.inf):
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_ends_a_compilation(tmp_path: Path) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt", 1, 1.0)
    last.compiling = lambda: True
    with pytest.raises(Stopped, match="SIGTERM"), last.signals():
        signal.raise_signal(signal.SIGTERM)
    last.compiling = lambda: False
    with last.signals():
        signal.raise_signal(signal.SIGINT)
        assert last.received == signal.SIGINT
