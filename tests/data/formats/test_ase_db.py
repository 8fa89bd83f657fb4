import json
import sqlite3

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from eqff.data.formats import ase_db
from eqff.data.reading.read import Source, read_frames
from eqff.errors import DataError

POSITIONS = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
FORCES = np.array([[10.0, 0, 0], [-4, 2, 0], [-6, -2, 0]])


def schnetpack(path, units, n_frames=3):
    """A database as SchNetPack writes it."""
    with connect(str(path), use_lock_file=False) as database:
        for k in range(n_frames):
            data = {"energy": np.array([-47000.0 - k]), "forces": FORCES, "dipole": np.array([0.1, 0.2, 0.3])}
            database.write(Atoms("OH2", POSITIONS), data=data)
        references = [0.0] * 100
        references[1] = -313.5
        database.metadata = {"_property_unit_dict": units, "_distance_unit": "Ang", "atomrefs": {"energy": references}}
    return path


def test_units_and_references_of_schnetpack(tmp_path):
    units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "dipole": "Debye"}
    source = Source(schnetpack(tmp_path / "a.db", units))
    assert source.units.energy == "kcal/mol"
    assert source.units.energy_source == "stated in the file"
    assert [frame.energy for frame in source.frames] == pytest.approx([-(47000 + k) / 23.060548 for k in range(3)])
    np.testing.assert_allclose(source.frames[0].forces, FORCES / 23.060548012, rtol=1e-9)
    np.testing.assert_array_equal(source.frames[0].info["dipole"], [0.1, 0.2, 0.3])
    assert json.loads(source.provenance["origin_atomrefs"]) == {"energy": {"1": -313.5}}


def test_units_that_contradict_each_other(tmp_path):
    schnetpack(tmp_path / "a.db", {"energy": "Ha", "forces": "eV/Ang"})
    with pytest.raises(DataError, match=r"EQ3217.*energies in Ha, lengths in Ang, but forces in eV/Ang"):
        read_frames(tmp_path / "a.db")


def test_metadata_without_the_unit_of_the_energy(tmp_path):
    schnetpack(tmp_path / "a.db", {"dipole": "Debye"})
    with pytest.raises(DataError, match="EQ3010"):
        read_frames(tmp_path / "a.db")
    assert read_frames(tmp_path / "a.db", energy_unit="kcal/mol")[0].energy == pytest.approx(-47000 / 23.060548)


def test_a_plain_database_is_in_electronvolt(water_file, tmp_path, same_frame):
    frames = read_frames(water_file)
    ase_db.write(tmp_path / "a.db", frames)
    with connect(str(tmp_path / "a.db")) as database:  # as ASE sees it
        row = database.get(1)
        assert row.energy == frames[0].energy
        np.testing.assert_array_equal(row.stress, frames[0].stress)
    assert all(same_frame(a, b) for a, b in zip(frames, read_frames(tmp_path / "a.db"), strict=True))


def test_other_databases_are_refused_and_not_touched(tmp_path):
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("create table photos (name text)")
    connection.commit()
    connection.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(DataError, match=r"EQ3943.*not of ASE .it has photos"):
        read_frames(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == before
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(DataError, match="EQ3041"):
        read_frames(tmp_path / "text.db")


def test_truncated(tmp_path):
    units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}
    content = schnetpack(tmp_path / "a.db", units, n_frames=40).read_bytes()
    for part in (0.2, 0.5, 0.9):
        (tmp_path / "b.db").write_bytes(content[: int(part * len(content))])
        with pytest.raises(DataError, match="EQ3216"):
            read_frames(tmp_path / "b.db")
