"""Facts about published data sets, read by eqff; skipped where they are not beside the checkout."""

import numpy as np
import pytest

from eqff.data.read import read_frames, read_source
from eqff.data.statistics import statistics
from eqff.errors import DataError
from eqff.units import KCAL_PER_MOL

MOLECULES = ("ethanol", "aspirin", "benzene", "malonaldehyde", "naphthalene", "toluene", "uracil")


@pytest.mark.parametrize("molecule", MOLECULES)
def test_rmd17_forces_sum_to_zero(shared_data, molecule):
    source = shared_data / "rmd17" / f"rmd17_{molecule}_train_01.npz"
    frames = read_frames(source, energy_unit="kcal/mol")
    net = np.array([frame.forces.sum(axis=0) for frame in frames])
    assert len(frames) == 1000
    assert np.abs(net).max() < 7.5e-6 * KCAL_PER_MOL


def test_work_equals_energy_change_along_md17(shared_data):
    """dE = -F.dx over 1999 steps of a 0.5 fs trajectory: right units and sign give slope 1."""
    frames = read_frames(shared_data / "md17_original" / "ethanol_first2000.npz", energy_unit="kcal/mol")
    positions, forces = np.array([f.positions for f in frames]), np.array([f.forces for f in frames])
    change = np.diff([frame.energy for frame in frames])
    work = -(0.5 * (forces[1:] + forces[:-1]) * np.diff(positions, axis=0)).sum(axis=(1, 2))
    slope = np.polyfit(work, change, 1)[0]
    assert slope == pytest.approx(1.001, abs=5e-4)
    assert np.corrcoef(work, change)[0, 1] > 0.9997


def test_units_are_asked_for_with_the_right_suggestion(shared_data):
    for name in (
        "rmd17/rmd17_aspirin_test_01.npz",
        "md17_original/ethanol_first2000.npz",
        "md17_ccsd/ethanol_ccsd_t-train.npz",
        "formats/md22_Ac-Ala3-NHMe_5frames.xyz",
        "formats/metatrain_ethanol_reduced_100.xyz",
    ):
        with pytest.raises(DataError, match="looks like kcal/mol/Å"):
            read_frames(shared_data / name)
        frames = read_frames(shared_data / name, energy_unit="kcal/mol")
        forces = np.concatenate([frame.forces for frame in frames])
        assert 0.6 < np.sqrt((forces**2).mean()) < 1.5


def test_a_real_file_with_its_species_cut_short_is_refused(shared_data):
    """All arrays of this file were cut to 10 rows, the 12 nuclear charges too."""
    with pytest.raises(DataError, match=r"EQ3023.*nuclear_charges has shape \(10,\), expected \(12,\)"):
        read_frames(shared_data / "formats" / "rmd17_benzene_10frames.npz", energy_unit="kcal/mol")


def test_coupled_cluster_ethanol(shared_data):
    frames = read_frames(shared_data / "md17_ccsd" / "ethanol_ccsd_t-train.npz", energy_unit="kcal/mol")
    assert len(frames) == 1000
    assert frames[0].energy == pytest.approx(-4209.0, abs=10.0)


def test_3bpa_is_not_periodic_and_its_atoms_give_references(shared_data):
    source = read_source(shared_data / "3bpa" / "train_300K.xyz")
    assert source.census.periodic == 0
    assert source.census.compositions == {"C12H12N2O": 500}
    assert source.census.labels == {"energy": 500, "forces": 500, "stress": 0}
    atoms = read_frames(shared_data / "3bpa" / "iso_atoms.xyz")
    found = statistics(atoms, ("H", "C", "N", "O"), 4.0)
    assert found.reference_rank == 4
    by_number = {int(frame.atomic_numbers[0]): frame.energy for frame in atoms}
    assert found.reference_energies == pytest.approx([by_number[z] for z in (1, 6, 7, 8)], rel=1e-12)


@pytest.mark.parametrize(("name", "n_frames"), [("Si_train", 214), ("Si_test", 25), ("Mo_train", 194), ("Mo_test", 23)])
def test_mlearn_has_stress_on_every_frame(shared_data, name, n_frames):
    source = read_source(shared_data / "mlearn" / f"{name}.extxyz")
    assert source.census.labels == {"energy": n_frames, "forces": n_frames, "stress": n_frames}
    assert source.census.periodic == n_frames


def test_ethanol_statistics(shared_data):
    frames = read_frames(shared_data / "rmd17" / "rmd17_ethanol_train_01.npz", energy_unit="kcal/mol")
    energies = np.array([frame.energy for frame in frames])
    mean_error = np.abs(energies - energies.mean()).mean() / KCAL_PER_MOL
    forces = np.concatenate([frame.forces for frame in frames])
    assert mean_error == pytest.approx(3.34, rel=0.05)  # the published mean predictor
    assert np.abs(forces).mean() / KCAL_PER_MOL == pytest.approx(20.2, rel=0.02)
    assert statistics(frames, ("H", "C", "O"), 4.0).reference_rank == 1
