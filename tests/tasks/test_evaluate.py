"""Evaluation: predictions shifted by known amounts give known errors in the right places."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from toys import Repulsion, potential_of

from eqff.data.frame import Frame
from eqff.errors import DataError, GraphError
from eqff.tasks.evaluate import evaluate, offsets
from eqff.units import energy_factor


@pytest.fixture
def potential():
    return potential_of(Repulsion(0.3, 0.0), header={"training_data": {"compositions": ["H2O"]}})


def labelled(potential, atoms, energy=0.0, forces=0.0, stress=0.0, info=None):
    """The potential's own results plus errors (eV, eV/Å, eV/Å^3)."""
    (exact,) = potential.predict([atoms])
    return Frame(
        atomic_numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=atoms.positions,
        cell=np.array(atoms.cell),
        pbc=atoms.pbc,
        energy=exact.energy + energy,
        forces=exact.forces + forces,
        stress=None if exact.stress is None else exact.stress + stress,
        info=info or {},
    )


def water(seed):
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    return atoms


def test_errors_land_where_they_were_put(potential):
    on_oxygen = np.zeros((3, 3))
    on_oxygen[0] = [0.03, 0.0, 0.04]
    crystal = bulk("C", "diamond", a=3.5)
    crystal.rattle(0.1, seed=3)
    with pytest.warns(UserWarning, match="trained on H2O only"):
        last = labelled(potential, crystal, stress=0.01)
    frames = [labelled(potential, water(1), energy=0.006), labelled(potential, water(2), forces=on_oxygen), last]
    frames[1] = Frame(**{**vars(frames[1]), "info": {"config_type": "shaken", "other": 1}})
    progress = []
    found = evaluate(potential, frames, max_edges=6, progress=lambda *done: progress.append(done))
    assert (found.n_frames, found.n_atoms) == (3, 8)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    m = found.metrics
    assert m["energy_mae_meV"] == pytest.approx(2.0)
    assert m["energy_mean_error_meV"] == pytest.approx(-2.0)  # prediction - label
    assert m["energy_aligned_mae_meV"] == pytest.approx(2.0)  # 3 and 3 and 0 after -3 of both waters
    assert m["energy_per_atom_max_meV"] == pytest.approx(2.0)
    assert m["forces_mae_meV_A"] == pytest.approx((30 + 40) / 24)
    assert m["forces_vector_mae_meV_A"] == pytest.approx(50 / 8)
    assert m["forces_vector_max_meV_A"] == pytest.approx(50)
    assert m["stress_mae_GPa"] == pytest.approx(1.602176634)
    assert {row["element"]: row["forces_max_meV_A"] for row in found.by_element} == pytest.approx(
        {"H": 0.0, "C": 0.0, "O": 40.0}, abs=1e-9
    )
    assert sum(row["n_atoms"] for row in found.by_force) == 8
    assert found.worst_energy[0]["frame"] == 0
    assert found.worst_energy[0]["energy_per_atom_error_meV"] == pytest.approx(-2.0)
    worst = found.worst_forces[0]
    assert (worst["frame"], worst["atom"], worst["element"], worst["config_type"]) == (1, 0, "O", "shaken")
    assert "other" not in worst
    assert found.unknown_compositions == ["C2"]
    assert len(found.force_elements) == len(found.values["forces_norm"][0]) == 8


def test_r2_of_a_perfect_and_of_a_useless_potential(potential):
    frames = [labelled(potential, water(seed)) for seed in range(4)]
    found = evaluate(potential, frames)
    assert found.metrics["energy_r2"] == pytest.approx(1.0)
    assert found.metrics["forces_r2"] == pytest.approx(1.0)
    mean = np.mean([frame.energy for frame in frames])
    useless = [Frame(**{**vars(frame), "energy": 2 * frame.energy - mean}) for frame in frames]
    # prediction p, label 2p - mean p: residual p - mean, spread 2 (p - mean)
    assert evaluate(potential, useless).metrics["energy_r2"] == pytest.approx(1 - 1 / 4)


def test_force_bins_are_by_the_length_of_the_label(potential):
    frame = labelled(potential, water(0))
    forces = np.array([[0.0, 0.3, 0.4], [0.0, 0, 0], [9.0, 0, 0]])
    found = evaluate(potential, [Frame(**{**vars(frame), "forces": forces})])
    assert [(row["from_eV_A"], row["to_eV_A"], row["n_atoms"]) for row in found.by_force] == [
        (0.0, 0.5, 1),
        (0.5, 1.0, 1),
        (8.0, None, 1),
    ]


def test_labels_may_be_partial(potential):
    frame = labelled(potential, water(0), energy=0.001)
    only_energy = Frame(**{**vars(frame), "forces": None})
    only_forces = Frame(**{**vars(frame), "energy": None})
    assert evaluate(potential, [only_energy]).by_element == []
    found = evaluate(potential, [only_energy, only_forces])
    assert found.metrics["energy_n"] == 1
    assert found.metrics["forces_n"] == 9
    assert found.worst_forces[0]["frame"] == 1
    with pytest.raises(DataError, match="EQ3110"):
        evaluate(potential, [Frame(**{**vars(frame), "energy": None, "forces": None})])
    with pytest.raises(GraphError, match="data: frame 1: species: atom 0 is Ar"):
        evaluate(potential, [frame, Frame(atomic_numbers=np.array([18]), positions=np.zeros((1, 3)))])


def test_factor_of_a_wrong_unit_shows(potential):
    """Labels in kcal/mol taken as eV: the error is the label's own size."""
    frame = labelled(potential, water(0))
    wrong = Frame(**{**vars(frame), "forces": frame.forces / energy_factor("kcal/mol")})
    assert evaluate(potential, [wrong]).metrics["forces_r2"] < 0.1


def test_offsets_of_a_level_of_theory_are_found_by_composition_by_element_or_as_a_constant():
    rng = np.random.default_rng(0)
    error = np.array([3.0, 5.0, -1.0, 1.0])
    shift, words = offsets(error, ["H2O", "H2O", "CH4", "CH4"])
    np.testing.assert_allclose(shift, [4.0, 4.0, 0.0, 0.0])
    assert "each composition" in words
    alkanes = [f"C{n}H{2 * n + 2}" for n in range(1, 9)]
    error = np.array([-30.0 * n + 0.5 * (2 * n + 2) for n in range(1, 9)])  # eV per C and per H
    noise = rng.normal(0.0, 1e-3, 8)
    shift, words = offsets(error + noise, alkanes)
    np.testing.assert_allclose(shift, error, atol=5e-3)
    assert "each element" in words
    shift, words = offsets(np.array([1.0, 2.0, 3.0]), ["C2H6O", "CH4O", "CH2O"])
    np.testing.assert_allclose(shift, 2.0)
    assert words == "the mean error"


def test_energies_are_drawn_aligned_where_most_of_the_error_is_an_offset(potential, tmp_path):
    noise = 0.006 * np.array([1, -1, 1, -1, 1, -1])
    shifted = [labelled(potential, water(seed), energy=-30.0 + noise[seed]) for seed in range(6)]
    found = evaluate(potential, shifted)
    assert found.metrics["energy_per_atom_mae_meV"] == pytest.approx(10_000, rel=1e-3)
    assert found.metrics["energy_per_atom_aligned_mae_meV"] == pytest.approx(2.0)  # 6 meV over three atoms
    label, value = found.values["energy_per_atom_aligned"]
    np.testing.assert_allclose(np.abs(value - label), 0.002)
    assert found.alignment == "the mean error of each composition"
    plain = evaluate(potential, [labelled(potential, water(seed), energy=noise[seed]) for seed in range(6)])
    assert "energy_per_atom_aligned" not in plain.values
