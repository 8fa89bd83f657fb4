"""Vibrations: closed form, ASE's finite differences, free motions counted by shape, constraints, files."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.io.jsonio import read_json
from ase.vibrations import Vibrations, VibrationsData
from torch import nn
from toys import potential_of

from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, RunError
from eqff.tasks.vibrations import Mode, VibrationsConfig, animate, rigid_motions, run_vibrations

STIFFNESS, LENGTH = 30.0, 1.2  # eV/Å^2, Å


class Springs(nn.Module):
    """E = k/2 (r - r0)^2 for each pair, (r0 of the outer pair longer), smoothly gone at 4 Å."""

    def forward(self, species, senders, receivers, edge_vector):
        length = edge_vector.norm(dim=1)
        rest = LENGTH * (1.0 + 0.6 * (senders - receivers).abs().eq(2))
        pair = 0.25 * STIFFNESS * (length - rest) ** 2
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


class Pairs(nn.Module):
    """Lennard-Jones-like pairs that bind near 1.5 Å, cut off smoothly."""

    def forward(self, species, senders, receivers, edge_vector):
        square = (edge_vector**2).sum(1)
        inverse = (1.3**2 / square) ** 2
        pair = 0.4 * (inverse**2 - 2 * inverse) * (1 - square / 16.0).clamp(min=0) ** 3
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


def calculator(module):
    return EqffCalculator(potential_of(module))


def wavenumber(stiffness, mass):
    """sqrt(k / m) in cm-1, from SI constants.  Args: eV/Å^2, amu"""
    omega = np.sqrt(stiffness * 16.02176634 / (mass * 1.66053906660e-27))
    return omega / (2 * np.pi * 2.99792458e10)


def run(tmp_path, atoms, module, **options):
    return run_vibrations(VibrationsConfig(output=tmp_path / "vib", **options), atoms, calculator(module))


def test_a_diatomic_has_one_vibration_of_known_frequency(tmp_path):
    report = run(tmp_path, Atoms("CO", [[0, 0, 0], [0.3, 0.9, 0.9]]), Springs())
    mass = 1.0 / (1.0 / 12.011 + 1.0 / 15.999)
    (mode,) = report.vibrations
    assert mode.kind == "vibration"
    assert mode.frequency == pytest.approx(wavenumber(STIFFNESS, mass), rel=1e-6)
    assert report.zero_point_energy == pytest.approx(0.5 * mode.frequency * units.invcm, rel=1e-9)
    assert len(report.rigid) == 5
    assert max(abs(mode.frequency) for mode in report.rigid) < 0.1
    assert report.relaxed.converged
    assert report.max_force < 1e-6


def test_a_saddle_point_has_imaginary_modes(tmp_path):
    """Three atoms on a line whose outer pair is pushed together: it buckles in two directions."""
    report = run(tmp_path, Atoms("OCO", [[0, 0, -1.15], [0, 0, 0], [0, 0, 1.15]]), Springs())
    assert [mode.kind for mode in report.vibrations] == ["imaginary"] * 2 + ["vibration"] * 2
    assert report.n_imaginary == 2
    assert len(report.rigid) == 5
    first, second = (mode.frequency for mode in report.vibrations[:2])
    assert first == pytest.approx(second, rel=1e-6)
    assert first < -100
    real = sum(mode.frequency for mode in report.vibrations[2:])
    assert report.zero_point_energy == pytest.approx(0.5 * real * units.invcm)


def test_against_ases_finite_differences(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = molecule("CH4")
    start.set_constraint(FixAtoms([1]))
    report = run(tmp_path, start, Pairs(), fmax=1e-5)
    atoms = report.atoms.copy()
    atoms.calc = calculator(Pairs())
    numerical = Vibrations(atoms, indices=[0, 2, 3, 4], delta=1e-3, nfree=4)
    numerical.run()
    expected = numerical.get_frequencies()
    found = np.array([mode.frequency for mode in report.modes])
    signed = np.where(np.abs(expected.imag) > np.abs(expected.real), -expected.imag, expected.real)
    np.testing.assert_allclose(np.sort(signed)[3:], found[3:], atol=0.1)
    assert len(report.modes) == 12
    assert len(report.rigid) == 3, "rotations about the fixed atom"
    assert all(not mode.displacement[1].any() for mode in report.modes)


def test_ethanol_against_finite_differences(tmp_path):
    """The shipped potential, float64."""
    calc = EqffCalculator("ethanol-nequip", dtype="float64")
    report = run_vibrations(VibrationsConfig(output=tmp_path / "vib", modes=False), molecule("CH3CH2OH"), calc)
    atoms = report.atoms.copy()
    atoms.calc = calc
    numerical = Vibrations(atoms, name=str(tmp_path / "steps"), delta=2e-3)
    numerical.run()
    found = np.array([mode.frequency for mode in report.vibrations])
    assert np.abs(found - np.sort(numerical.get_frequencies().real)[6:]).max() < 0.1
    assert max(abs(mode.frequency) for mode in report.rigid) < 1.0
    assert found[0] > 200
    assert found[-1] == pytest.approx(3700, abs=60), "O-H stretch"
    assert ((found[-6:-1] > 2800) & (found[-6:-1] < 3150)).all(), "five C-H stretches"


@pytest.mark.parametrize(
    ("atoms", "fixed", "n_rigid"),
    [
        (molecule("CH3CH2OH"), [], 6),
        (molecule("CO2"), [], 5),
        (Atoms("O"), [], 3),
        (molecule("CH4"), [0], 3),
        (molecule("CH4"), [0, 1], 1),
        (molecule("CH4"), [0, 1, 2], 0),
        (molecule("CO2"), [0], 2),
        (bulk("C", "diamond", a=3.5), [], 3),
        (Atoms("C2", [[0, 0, 0], [0.4, 0.5, 1.0]], cell=[9, 9, 2.5], pbc=[False, False, True]), [], 4),
        (Atoms("C2", [[0, 0, 0], [0.4, 0.5, 1.0]], cell=[3, 3, 9], pbc=[True, True, False]), [], 3),
    ],
)
def test_free_motions(atoms, fixed, n_rigid):
    free = np.setdiff1d(np.arange(len(atoms)), fixed)
    basis = rigid_motions(atoms, free)
    assert basis.shape == (n_rigid, 3 * len(free))
    np.testing.assert_allclose(basis @ basis.T, np.eye(n_rigid), atol=1e-10)
    velocity = basis.reshape(n_rigid, len(free), 3) / np.sqrt(atoms.get_masses()[free])[:, None]
    for motion in velocity:  # no distance changes, to first order
        whole = np.zeros((len(atoms), 3))
        whole[free] = motion
        arm = atoms.positions[:, None] - atoms.positions[None]
        assert np.abs((arm * (whole[:, None] - whole[None])).sum(2)).max() < 1e-9


def test_unrelaxed_structures_on_request(tmp_path):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.3]])
    report = run(tmp_path, atoms, Springs(), relax=False)
    assert report.relaxed is None
    assert report.max_force == pytest.approx(STIFFNESS * 0.1)
    assert report.atoms.positions == pytest.approx(atoms.positions)
    assert report.modes[-1].frequency == pytest.approx(wavenumber(STIFFNESS, 1 / (1 / 12.011 + 1 / 15.999)), rel=1e-6)


def test_files(tmp_path):
    report = run(tmp_path, molecule("H2O"), Springs())
    folder = tmp_path / "vib"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    modes = [f"modes/mode_{k}.extxyz" for k in (6, 7, 8)]
    assert names == ["frequencies.csv", *modes, "provenance.json", "structure.extxyz", "vibrations.json"]
    assert sorted(report.files) == [folder / name for name in names]
    table = np.genfromtxt(folder / "frequencies.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    np.testing.assert_allclose(table["frequency_cm1"], [mode.frequency for mode in report.modes], atol=1e-6)
    assert table["kind"].tolist() == ["rigid"] * 6 + ["vibration"] * 3
    data = read_json(folder / "vibrations.json")
    assert isinstance(data, VibrationsData)
    np.testing.assert_allclose(data.get_frequencies().real[6:], table["frequency_cm1"][6:], atol=1e-5)
    assert ase.io.read(folder / "structure.extxyz").get_forces() == pytest.approx(0.0, abs=1e-6)
    frames = ase.io.read(folder / modes[2], ":")
    assert len(frames) == 20
    assert frames[0].info["frequency_cm-1"] == pytest.approx(report.modes[8].frequency)
    moves = np.array([frame.positions - frames[0].positions for frame in frames])
    assert np.linalg.norm(moves, axis=2).max() == pytest.approx(0.3, abs=1e-6)
    np.testing.assert_allclose(moves[5], -moves[15], atol=1e-7)
    masses = report.atoms.get_masses()[:, None]
    np.testing.assert_allclose((masses * moves).sum(1), 0.0, atol=1e-4)


def test_a_second_run_needs_force_and_leaves_no_old_modes(tmp_path):
    run(tmp_path, molecule("H2O"), Springs())
    (tmp_path / "vib" / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"EQ1251: .*vib exists"):
        run(tmp_path, Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]), Springs())
    assert len(list((tmp_path / "vib" / "modes").iterdir())) == 3
    run(tmp_path, Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]), Springs(), force=True)
    assert [path.name for path in (tmp_path / "vib" / "modes").iterdir()] == ["mode_5.extxyz"]
    assert (tmp_path / "vib" / "note.txt").read_text() == "mine"
    (tmp_path / "plain").write_text("mine")
    with pytest.raises(ConfigError, match="EQ1254"):
        run_vibrations(VibrationsConfig(output=tmp_path / "plain", force=True), molecule("H2O"), calculator(Springs()))


def fixed_water(constraint):
    atoms = molecule("H2O")
    atoms.set_constraint(constraint)
    return atoms


def massless_water():
    atoms = molecule("H2O")
    atoms.set_masses([16.0, 0.0, 1.0])
    return atoms


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (fixed_water(FixBondLength(0, 1)), "EQ1250: structure: has FixBondLengths"),
        (fixed_water(FixAtoms([0, 1, 2])), "EQ1252: structure: all atoms are fixed"),
        (massless_water(), "EQ1253: structure: atom 1 has mass 0"),
    ],
)
def test_structures_that_cannot_vibrate(tmp_path, atoms, words):
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, atoms, Springs())
    assert list(tmp_path.iterdir()) == []


def test_a_relaxation_that_does_not_end_gives_no_frequencies(tmp_path):
    with pytest.raises(RunError, match=r"EQ5322: after 1 steps the largest force is .* eV/Å, above fmax=1e-06"):
        run(tmp_path, Atoms("CO", [[0, 0, 0], [0, 0, 1.6]]), Springs(), steps=1)
    assert not (tmp_path / "vib").exists()


def test_one_atom_has_no_vibrations(tmp_path):
    report = run(tmp_path, Atoms("O"), Springs())
    assert report.vibrations == []
    assert len(report.rigid) == 3
    assert report.zero_point_energy == 0.0
    assert json.loads((tmp_path / "vib" / "vibrations.json").read_text())


def test_animation_returns_to_its_start():
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    mode = Mode(100.0, "vibration", np.array([[0, 0, 2.0], [0, 0, -1.0]]))
    frames = list(animate(atoms, mode, amplitude=0.5, n_frames=4))
    heights = [frame.positions[0, 2] for frame in frames]
    assert heights == pytest.approx([0.0, 0.5, 0.0, -0.5], abs=1e-12)
    assert frames[1].positions[1, 2] == pytest.approx(1.2 - 0.25)
