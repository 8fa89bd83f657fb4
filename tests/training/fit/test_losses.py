"""Labels that are absent count for nothing, weights of frames multiply, in the eager and in the compiled step."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset, make_loader, to_structure
from eqff.models import nequip, tfn
from eqff.models.nequip import Config, Model
from eqff.training.config import LossConfig
from eqff.training.fit.lone_atoms import LoneAtoms
from eqff.training.fit.losses import errors, labels_of, loss, loss_weights
from eqff.training.fit.step import CompiledStep, EagerStep

CONFIG = Config(species=("H", "O"), r_max=3.0, l_max=1, n_layers=1, n_channels=4, radial_hidden=(8,))
LABELS = ("energy", "forces", "stress")


def crystal(seed: int, without: tuple[str, ...] = (), **info: float) -> Frame:
    """Three atoms in a box, with labels at random."""
    random = np.random.default_rng(seed)
    positions = np.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0], [-0.3, 0.9, 0.0]]) + random.normal(0.0, 0.1, (3, 3))
    labels: dict[str, Any] = {
        "energy": random.normal(),
        "forces": random.normal(size=(3, 3)),
        "stress": random.normal(size=6),
    }
    labels |= dict.fromkeys(without)
    cell = 4.0 * np.eye(3)
    return Frame(
        atomic_numbers=np.array([8, 1, 1]), positions=positions, cell=cell, pbc=np.ones(3, bool), info=info, **labels
    )


def batch(frames: list[Frame]) -> Any:
    return next(iter(make_loader(FrameDataset(frames, ("H", "O"), 3.0, require=()), batch_size=len(frames))))


def model() -> Model:
    return Model(CONFIG).to(torch.float64)


def parts(frames: list[Frame], config: LossConfig) -> np.ndarray:
    """Loss of forces, energy and stress, each alone."""
    found = batch(frames)
    labels, structure = labels_of(found, stress=True), to_structure(found)
    difference = errors(model(), structure, labels, create_graph=False)
    return np.array([float(loss(difference, structure, labels, row, config)) for row in torch.eye(3).double()])


@pytest.mark.parametrize("kind", ["mse", "mae", "l2", "huber"])
def test_means_are_over_the_frames_that_have_the_label(kind: Any) -> None:
    config = LossConfig(kind=kind)
    full = [parts([crystal(seed)], config) for seed in range(3)]
    without = [("stress",), ("energy",), ("energy", "forces")]
    mixed = parts([crystal(seed, missing) for seed, missing in enumerate(without)], config)
    expected = [(full[0][0] + full[1][0]) / 2, full[0][1], (full[1][2] + full[2][2]) / 2]
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)


def test_a_label_that_no_frame_of_a_batch_has_is_zero_and_not_nan() -> None:
    assert parts([crystal(0, LABELS), crystal(1, LABELS)], LossConfig()).tolist() == [0.0, 0.0, 0.0]
    molecule = replace(crystal(0), cell=np.zeros((3, 3)), pbc=np.zeros(3, bool))  # a stress without a volume
    assert parts([molecule], LossConfig())[2] == 0.0


def test_weights_multiply_the_labels_of_their_frame() -> None:
    config = LossConfig(kind="huber")
    one, other = parts([crystal(0)], config), parts([crystal(1)], config)
    weighted = [crystal(0, config_weight=2.0, config_forces_weight=0.5, config_stress_weight=3.0), crystal(1)]
    np.testing.assert_allclose(parts(weighted, config), (one * [1.0, 2.0, 6.0] + other) / 2, rtol=1e-12)
    nothing = [crystal(0, config_weight=0.0), crystal(1)]
    np.testing.assert_allclose(parts(nothing, config), other / 2, rtol=1e-12)


@pytest.mark.parametrize("energies", [{}, {"O": -3.0}, {"H": 1.0, "O": -3.0}])
def test_the_compiled_step_has_the_same_masks(energies: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda program, **options: program)
    config, alone = LossConfig(kind="huber", stress=3.0), LoneAtoms(CONFIG.species, energies)
    eager = EagerStep(model(), config, alone)
    step = CompiledStep(copy.deepcopy(eager.model), config, alone)
    weights = loss_weights(config, 0.0)
    for without in ((), ("stress",), ("forces", "energy"), LABELS):  # labels of each batch, not of the first
        found = batch([crystal(0, without), crystal(1, config_weight=3.0)])
        inputs = to_structure(found), labels_of(found, stress=True), weights
        eager.model.zero_grad(), step.model.zero_grad()
        expected, value = eager(*inputs), step(*inputs)
        assert step.instead is None
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-14)
        expected.backward(), value.backward()
        for one, two in zip(eager.model.parameters(), step.model.parameters(), strict=True):
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("family", [nequip, tfn])
def test_isolated_atoms_keep_their_energies_whatever_the_weights(family: Any) -> None:
    own = family.Model(family.Config(species=("H", "O"), r_max=3.0, l_max=1, n_layers=1, n_channels=4)).double()
    held = LoneAtoms(CONFIG.species, {"O": -3.0}).held(own)
    none = torch.zeros(0, dtype=torch.int64)
    inputs = (torch.tensor([1, 0, 1]), none, none, torch.zeros(0, 3).double())
    found = held(*inputs)
    torch.testing.assert_close(found[[0, 2]], torch.full((2,), -3.0).double(), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(found[1], own(*inputs)[1], rtol=1e-12, atol=0.0)  # no energy is stated for H
    assert abs(own(*inputs)[0] + 3.0) > 0.1
    frames = batch([crystal(0)])
    structure, labels = to_structure(frames), labels_of(frames, stress=True)
    one, other = (errors(m, structure, labels, create_graph=False) for m in (held, own))
    torch.testing.assert_close(one.forces, other.forces, rtol=0.0, atol=1e-13)
    torch.testing.assert_close(one.virial, other.virial, rtol=0.0, atol=1e-12)
