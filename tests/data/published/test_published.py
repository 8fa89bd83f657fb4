"""Facts about published data sets, read by eqff; skipped where they are not beside the checkout."""

import json
import sqlite3

import ase.io
import numpy as np
import pytest

from eqff.data.reading.read import Source, read_frames
from eqff.data.statistics import statistics
from eqff.errors import DataError
from eqff.units import HARTREE, KCAL_PER_MOL

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
    source = Source(shared_data / "3bpa" / "train_300K.xyz")
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
    source = Source(shared_data / "mlearn" / f"{name}.extxyz")
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


NPZ = [
    *((f"rmd17/rmd17_{molecule}_{part}_01.npz", 1000) for molecule in MOLECULES for part in ("train", "test")),
    ("rmd17/rmd17_ethanol_10ksub.npz", 9633),
    ("rmd17/rmd17_aspirin_10ksub.npz", 9633),
    ("md17_original/ethanol_first2000.npz", 2000),
    ("md17_ccsd/ethanol_ccsd_t-train.npz", 1000),
    ("selfmade/ethanol_gfn2_500K.npz", 2000),
]


@pytest.mark.parametrize(("name", "n_frames"), NPZ)
def test_every_npz_as_numpy_reads_it(shared_data, name, n_frames):
    frames = read_frames(shared_data / name, energy_unit="kcal/mol")
    with np.load(shared_data / name) as arrays:
        keys = ("R", "E", "F", "z") if "R" in arrays else ("coords", "energies", "forces", "nuclear_charges")
        positions, energies, forces, numbers = (arrays[key] for key in keys)
    assert len(frames) == n_frames
    np.testing.assert_array_equal(np.array([f.positions for f in frames]), positions)
    np.testing.assert_array_equal(np.array([f.forces for f in frames]), forces * KCAL_PER_MOL)
    np.testing.assert_array_equal([f.energy for f in frames], energies.reshape(-1) * KCAL_PER_MOL)
    assert all(np.array_equal(f.atomic_numbers, numbers) for f in frames)
    assert not any(f.pbc.any() for f in frames)


XYZ = [
    ("3bpa/train_300K.xyz", 1.0, "energy", False),
    ("3bpa/train_mixedT.xyz", 1.0, "energy", False),
    ("3bpa/iso_atoms.xyz", 1.0, "energy", False),
    ("mlearn/Si_train.extxyz", 1.0, "energy", True),
    ("mlearn/Si_test.extxyz", 1.0, "energy", True),
    ("mlearn/Mo_train.extxyz", 1.0, "energy", True),
    ("mlearn/Mo_test.extxyz", 1.0, "energy", True),
    ("selfmade/water16_gfn1_350K.extxyz", 1.0, "energy", True),
    ("formats/md22_Ac-Ala3-NHMe_5frames.xyz", KCAL_PER_MOL, "Energy", False),
    ("formats/metatrain_ethanol_reduced_100.xyz", KCAL_PER_MOL, "energy", False),
]


@pytest.mark.parametrize(("name", "factor", "key", "periodic"), XYZ)
def test_every_xyz_as_ase_reads_it(shared_data, name, factor, key, periodic):
    unit = None if factor == 1.0 else "kcal/mol"
    frames = read_frames(shared_data / name, energy_unit=unit)
    images = ase.io.read(shared_data / name, ":", format="extxyz")
    for frame, atoms in zip(frames, images, strict=True):
        results = atoms.calc.results
        np.testing.assert_array_equal(frame.positions, atoms.positions)
        np.testing.assert_array_equal(frame.atomic_numbers, atoms.numbers)
        assert frame.energy == float(results.get(key, atoms.info.get(key))) * factor
        assert frame.pbc.tolist() == [periodic] * 3
        if "forces" in results:
            np.testing.assert_array_equal(frame.forces, results["forces"] * factor)
        else:
            assert frame.forces is None
        if periodic:
            np.testing.assert_array_equal(frame.cell, atoms.cell[:])
            np.testing.assert_allclose(frame.stress, results["stress"], rtol=1e-15, atol=0.0)
        else:
            assert frame.stress is None
            assert not frame.cell.any()
    assert len(frames) == len(images)


def test_water_npy_as_numpy_reads_it(shared_data):
    folder = shared_data / "water_pbc"
    source = Source(folder)
    sets = [folder / "data_0" / "set.000", folder / "data_1" / "set.000", folder / "data_1" / "set.001"]
    arrays = {n: np.concatenate([np.load(s / f"{n}.npy") for s in sets]) for n in ("coord", "box", "energy", "force")}
    assert source.census.labels == {"energy": 240, "forces": 240, "stress": 0}
    assert source.census.compositions == {"H128O64": 240}
    assert source.census.periodic == 240
    np.testing.assert_array_equal([f.positions.ravel() for f in source.frames], arrays["coord"])
    np.testing.assert_array_equal([f.forces.ravel() for f in source.frames], arrays["force"])
    np.testing.assert_array_equal([f.energy for f in source.frames], arrays["energy"].ravel().astype(float))
    np.testing.assert_array_equal([f.cell.ravel() for f in source.frames], arrays["box"])


def test_schnetpack_database_as_sqlite_and_numpy_read_it(shared_data):
    """Energies stand behind their name in the blob of `data`; positions are raw float64."""
    source = Source(shared_data / "formats" / "schnetpack_test_qm9.db")
    connection = sqlite3.connect(f"file:{source.path}?mode=ro", uri=True)
    rows = connection.execute("select numbers, positions from systems order by id").fetchall()
    metadata = json.loads(connection.execute("select value from information where name='metadata'").fetchone()[0])
    connection.close()
    for frame, (numbers, positions) in zip(source.frames, rows, strict=True):
        np.testing.assert_array_equal(frame.atomic_numbers, np.frombuffer(numbers, dtype=np.int32))
        np.testing.assert_array_equal(frame.positions.ravel(), np.frombuffer(positions))
    assert metadata["_property_unit_dict"]["energy_U0"] == "Ha"
    assert (source.units.energy, source.units.energy_source) == ("Hartree", "stated in the file")
    assert source.frames[0].energy == pytest.approx(-40.47893 * HARTREE, rel=1e-14)  # methane, molecule 1 of QM9
    references = json.loads(source.provenance["origin_atomrefs"])["energy_U0"]
    assert references["1"] == metadata["atomrefs"]["energy_U0"][1]
