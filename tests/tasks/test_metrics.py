"""Metrics against numbers worked out by hand, and running sums against whole arrays."""

import math

import numpy as np
import pytest
from ase import units

from eqff.artifact.potential import Prediction
from eqff.data.frame import Frame
from eqff.tasks.metrics import QUANTITIES, ErrorSums, error_metrics, pairs


def frame_and_prediction(rng, n_atoms):
    frame = Frame(
        atomic_numbers=np.full(n_atoms, 6),
        positions=np.zeros((n_atoms, 3)),
        energy=rng.normal(),
        forces=rng.normal(size=(n_atoms, 3)),
        stress=rng.normal(size=6),
    )
    energies = rng.normal(size=n_atoms)
    return frame, Prediction(energies.sum(), energies, rng.normal(size=(n_atoms, 3)), rng.normal(size=6))


def test_by_hand():
    found = error_metrics("forces", np.array([0.0, 1.0, 2.0]), np.array([0.1, 1.0, 1.8]))
    assert found["forces_mae_meV_A"] == pytest.approx(100.0)
    assert found["forces_rmse_meV_A"] == pytest.approx(1000 * math.sqrt(0.05 / 3))
    assert found["forces_max_meV_A"] == pytest.approx(200.0)
    assert found["forces_r2"] == pytest.approx(1 - 0.05 / 2)
    assert found["forces_n"] == 3


def test_units_of_stress_are_those_of_ase():
    found = error_metrics("stress", np.zeros(6), np.full(6, 1.0))  # 1 eV/Å^3
    assert found["stress_mae_GPa"] == pytest.approx(160.2176634)
    assert found["stress_mae_GPa"] == pytest.approx(1 / units.GPa)
    assert math.isnan(found["stress_r2"])  # labels do not vary


def test_sums_of_a_stream_equal_the_whole():
    rng = np.random.default_rng(0)
    both = [frame_and_prediction(rng, n_atoms) for n_atoms in (1, 5, 2, 9)]
    sums = ErrorSums()
    for frame, prediction in both:
        sums = ErrorSums(sums.sums)  # as on resume
        sums.add(prediction, frame)
    streamed = sums.metrics()
    for name in ("energy", "energy_per_atom", "forces", "stress"):
        found = [pairs(prediction, frame)[name] for frame, prediction in both]
        label, value = (np.concatenate(one) for one in zip(*found, strict=True))
        whole = error_metrics(name, label, value)
        del whole[f"{name}_r2"]
        for key, number in whole.items():
            assert streamed[key] == pytest.approx(number, rel=1e-12)


def test_only_what_both_have_is_compared():
    frame, prediction = frame_and_prediction(np.random.default_rng(0), 3)
    assert "stress" not in pairs(prediction._replace(stress=None), frame)
    bare = Frame(atomic_numbers=frame.atomic_numbers, positions=frame.positions)
    assert pairs(prediction, bare) == {}
    assert ErrorSums().metrics() == {}
    forces = frame.forces.copy()
    forces[1] = np.nan  # not labelled
    partly = Frame(atomic_numbers=frame.atomic_numbers, positions=frame.positions, forces=forces)
    assert len(pairs(prediction, partly)["forces"][0]) == 6


def test_every_name_ends_in_its_unit():
    for name, (suffix, _, _) in QUANTITIES.items():
        for key in error_metrics(name, np.array([0.0, 1.0]), np.array([0.5, 1.0])):
            assert key.endswith((f"_{suffix}", "_r2", "_n"))
