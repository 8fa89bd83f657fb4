"""The shipped potentials, as files: exact derivatives, symmetry, integrity, and what their cards claim."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import make_supercell
from ase.io import read
from scipy.spatial.transform import Rotation

import eqff
from eqff.artifact import available, default_structure, find, inspect
from eqff.artifact.archive import verify
from eqff.errors import PotentialError
from eqff.tasks.md import MDConfig, run_md

FOLDER = Path(__file__).parents[1] / "potentials"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def test_there_are_potentials() -> None:
    assert "ethanol-nequip" in NAMES


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def structure(name: str, seed: int = 0) -> Atoms:
    """The default structure, shaken: no force is zero by symmetry."""
    atoms = read(default_structure(name))
    atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=atoms.positions.shape)
    atoms.calc = eqff.EqffCalculator(name, dtype="float64")
    return atoms


def crystal(name: str) -> Atoms:
    """A crystal, strained; a molecule in a triclinic cell so narrow that images interact."""
    atoms = structure(name)
    if atoms.pbc.all():
        strain = [[1.01, 0.02, 0.0], [0.0, 0.97, 0.01], [-0.03, 0.0, 1.02]]
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    else:
        a, b, c = np.maximum(np.ptp(atoms.positions, axis=0) + 1.8, [5.2, 4.9, 5.5])
        atoms.set_cell([[a, 0.0, 0.0], [0.7, b, 0.0], [-0.4, 0.8, c]])
    atoms.pbc = True
    return atoms


def test_forces_are_finite_differences_of_the_energy(name: str) -> None:
    atoms = structure(name)
    forces, step = atoms.get_forces(), 1e-4
    scale = abs(forces).max()
    for atom, axis in ((0, 0), (2, 1), (5, 2), (8, 0)):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += shift * step
            values.append(moved.get_potential_energy())
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert -slope == pytest.approx(forces[atom, axis], abs=1e-6 * scale)


def test_stress_is_the_strain_derivative(name: str) -> None:
    atoms = crystal(name)
    stress, step = atoms.get_stress(), 1e-5
    for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        values = []
        for sign in (-2, -1, 1, 2):
            strain = np.eye(3)
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell @ strain, scale_atoms=True)
            moved.calc = atoms.calc
            values.append(moved.get_potential_energy())
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step) / atoms.get_volume()
        assert slope == pytest.approx(stress[k], abs=1e-6 * abs(stress).max())


def test_energy_is_invariant_and_forces_turn_along(name: str) -> None:
    atoms = structure(name)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()

    def check(changed: Atoms, expected_forces: np.ndarray) -> None:
        changed.calc = atoms.calc
        assert changed.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(changed.get_forces(), expected_forces, atol=1e-8)

    for turn in (*Rotation.random(3, random_state=1).as_matrix(), -np.eye(3)):  # the last is inversion
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ turn.T, scale_atoms=False)
        turned.positions = atoms.positions @ turn.T
        check(turned, forces @ turn.T)
    moved = atoms.copy()
    moved.positions += [1e4, -1e4, 1e4]
    check(moved, forces)
    order = np.random.default_rng(2).permutation(len(atoms))
    check(atoms[order], forces[order])


def test_energy_does_not_depend_on_the_choice_of_cell(name: str) -> None:
    atoms = crystal(name)
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    other = atoms.copy()
    other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell)
    other.positions[3] += atoms.cell[0] - 2 * atoms.cell[2]
    doubled = make_supercell(atoms, np.diag([2, 1, 1]))
    for changed, factor in ((other, 1), (doubled, 2)):
        changed.calc = atoms.calc
        assert changed.get_potential_energy() == pytest.approx(factor * energy, abs=1e-8)
        np.testing.assert_allclose(changed.get_stress(), stress, atol=1e-10)


def test_float32_is_close_to_float64(name: str) -> None:
    exact, atoms = structure(name), structure(name)
    atoms.calc = eqff.EqffCalculator(name, dtype="float32")
    np.testing.assert_allclose(atoms.get_forces(), exact.get_forces(), atol=2e-5)
    assert atoms.get_potential_energy() == pytest.approx(exact.get_potential_energy(), abs=1e-4)


def test_two_thousand_bit_flips_are_refused(name: str) -> None:
    path = find(name)
    content = bytearray(path.read_bytes())
    verify(bytes(content), path)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, 8 * len(content), 2000):
        content[place // 8] ^= 1 << (place % 8)
        with pytest.raises(PotentialError):
            verify(bytes(content), path)
        content[place // 8] ^= 1 << (place % 8)
    verify(bytes(content), path)


def test_the_folder_is_complete_and_says_the_same_everywhere(name: str) -> None:
    folder = FOLDER / name
    written = {path.name for path in folder.iterdir()}
    assert {f"{name}.eqff.pt", "card.md", "recipe.toml", "metrics.json", "metrics.csv", "structure.xyz"} <= written
    assert "learning_curve.png" in written
    header = inspect(name)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert header["metrics"]["test"] == metrics["test"]
    card = (folder / "card.md").read_text()
    for key in {"forces_mae_meV_A", "energy_mae_meV", "stress_mae_GPa"} & metrics["test"].keys():
        assert f"{metrics['test'][key]:.2f}" in card
    assert name in available()
    atoms = read(default_structure(name))
    atoms.calc = eqff.EqffCalculator(name)
    assert abs(atoms.get_forces()).max() < 0.01


def test_the_file_says_which_version_wrote_it(name: str) -> None:
    versions = inspect(name)["versions"]
    assert all(value[0].isdigit() and "unknown" not in value for value in versions.values()), versions


def test_test_errors_are_those_of_the_card(name: str) -> None:
    """On real DFT frames, where they are at hand."""
    metrics = json.loads((FOLDER / name / "metrics.json").read_text())["test"]
    path = next((FOLDER.parents[1] / "shared" / "data").glob(f"*/{metrics['data']}"), None)
    if path is None:
        pytest.skip(f"{metrics['data']} is not at hand")
    from eqff.config import read_toml
    from eqff.data.reading.read import read_frames
    from eqff.elements import species_index
    from eqff.graph import batch_structures
    from eqff.neighbors import build_structure
    from eqff.potential import voigt_stress

    potential = eqff.load(name)
    frames = read_frames(path, energy_unit=read_toml(FOLDER / name / "recipe.toml")["data"].get("energy_unit"))
    structures = [
        build_structure(f.positions, species_index(f.atomic_numbers, potential.species), f.cell, f.pbc, potential.r_max)
        for f in frames
    ]
    parts = [potential(batch_structures(structures[k : k + 50])) for k in range(0, len(structures), 50)]
    energy, _, forces, strain_gradient = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    force_error = forces.numpy() - np.concatenate([f.forces for f in frames])
    energy_error = energy - torch.tensor([f.energy for f in frames], dtype=torch.float64)
    assert 1000 * abs(force_error).mean() == pytest.approx(metrics["forces_mae_meV_A"], rel=1e-3)
    assert 1000 * float(energy_error.abs().mean()) == pytest.approx(metrics["energy_mae_meV"], rel=1e-2)
    if "stress_mae_GPa" in metrics:
        cells = torch.tensor(np.array([f.cell for f in frames]))
        stress = torch.stack([voigt_stress(*both) for both in zip(strain_gradient, cells, strict=True)])
        stress_error = (stress.numpy() - np.stack([f.stress for f in frames])) / units.GPa
        assert abs(stress_error).mean() == pytest.approx(metrics["stress_mae_GPa"], rel=1e-3)


@pytest.mark.slow
def test_constant_energy_dynamics_conserves_energy(name: str, tmp_path: Path) -> None:
    light = 1 in read(default_structure(name)).numbers
    reports = []
    for timestep in (0.5, 0.25) if light else (2.0, 1.0):  # fs
        config = MDConfig(timestep=timestep, steps=round(600 / timestep), trajectory=tmp_path / f"{timestep}.extxyz")
        calculator = eqff.EqffCalculator(name, dtype="float64")
        reports.append(run_md(config, read(default_structure(name)), calculator))
    assert abs(reports[0].drift) < max(0.1, reports[0].drift_resolution)  # meV/atom/ps; the cards have longer runs
    assert reports[0].fluctuation / reports[1].fluctuation == pytest.approx(4.0, rel=0.15)
