"""Structures keep all that their file says: constraints, momenta, masses, tags, info, labels; isotopes; units."""

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import read_frames
from eqff.data.reading.structures import frame_text, open_structures, read_structure, read_structures
from eqff.errors import ConfigError, DataError


def water(number: int) -> Atoms:
    """Water with all that a structure may carry; number tells frames apart."""
    atoms = molecule("H2O", cell=[5.0, 6.0, 7.0], pbc=[True, True, False])
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_momenta(np.arange(9.0).reshape(3, 3) + number, apply_constraint=False)
    atoms.set_masses([15.999, 2.014, 1.008])
    atoms.set_tags([number, 1, 2])
    atoms.info = {"name2": f"w{number}"}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - number, forces=np.full((3, 3), 0.25))
    return atoms


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.db"])
def test_nothing_is_lost(tmp_path, name):
    frames = [water(number) for number in range(4)]
    if name == "a.db":
        with ase.db.connect(tmp_path / name) as database:
            for atoms in frames:
                database.write(atoms, name2=atoms.info["name2"])
    else:
        ase.io.write(tmp_path / name, frames)
    for place, number in ((f"{tmp_path / name}@2", 2), (tmp_path / name, 3)):
        atoms, expected = read_structure(place), frames[number]
        assert atoms == expected  # positions, numbers, cell, pbc
        assert atoms.constraints[0].index.tolist() == [0]
        for quantity in ("momenta", "masses", "tags"):
            np.testing.assert_allclose(atoms.arrays[quantity], expected.arrays[quantity])
        assert atoms.info["name2"] == f"w{number}"
        assert atoms.get_potential_energy() == -1.0 - number
        np.testing.assert_array_equal(atoms.get_forces(apply_constraint=False), 0.25)
        (tmp_path / "again.extxyz").write_text(frame_text(atoms))
        assert frame_text(read_structure(tmp_path / "again.extxyz")) == frame_text(atoms)


def test_extended_xyz_is_read_as_ase_reads_it(tmp_path):
    atoms = water(0)
    atoms.set_constraint([FixCartesian(1, mask=[True, False, True])])
    atoms.arrays["guess"] = np.array([1, 2, 3])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, stress=np.arange(6.0), magmoms=np.ones(3))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    found, expected = read_structure(tmp_path / "a.extxyz"), ase.io.read(tmp_path / "a.extxyz")
    assert found == expected
    assert found.info == expected.info
    assert set(found.arrays) == set(expected.arrays)
    assert set(found.calc.results) == set(expected.calc.results)
    np.testing.assert_array_equal(found.calc.results["stress"], expected.calc.results["stress"])
    for one in (found, expected):
        one.set_momenta(np.ones((3, 3)))
    np.testing.assert_array_equal(found.get_momenta(), expected.get_momenta())


@pytest.mark.parametrize(
    "columns", ["species:S:1:pos:R:3", "symbols:S:1:positions:R:3", "Z:I:1:pos:R:3", "numbers:I:1:positions:R:3"]
)
def test_names_of_columns_that_ase_uses(tmp_path, columns):
    first, second = ("8", "1") if ":I:" in columns else ("O", "H")
    (tmp_path / "a.xyz").write_text(f"2\nProperties={columns}\n{first} 0 0 0\n{second} 0 0 1\n")
    assert read_structure(tmp_path / "a.xyz").get_chemical_formula() == "HO"
    assert read_frames(tmp_path / "a.xyz")[0].atomic_numbers.tolist() == [8, 1]


def test_isotopes_of_hydrogen_are_hydrogen_with_their_mass(tmp_path):
    (tmp_path / "a.xyz").write_text("4\n\nO 0 0 0\nD 0 0 1\nT 0 1 0\nH 1 0 0\n")
    atoms = read_structure(tmp_path / "a.xyz")
    assert atoms.get_chemical_symbols() == ["O", "H", "H", "H"]
    np.testing.assert_allclose(atoms.get_masses(), [15.999, 2.014, 3.016, 1.008], atol=1e-3)
    assert read_frames(tmp_path / "a.xyz")[0].atomic_numbers.tolist() == [8, 1, 1, 1]


def test_a_structure_needs_no_unit_of_energy(tmp_path):
    arrays = {"z": np.array([8, 1]), "R": np.array([[[0, 0, 0], [0, 0, 0.96]]]), "E": np.array([-1.0])}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="EQ3010"):
        read_frames(tmp_path / "a.npz")
    stream = open_structures(tmp_path / "a.npz")
    assert [frame.energy for frame in stream] == [None]
    assert "--energy-unit" in stream.log.unlabelled
    told = read_structure(tmp_path / "a.npz", ReadOptions(energy_unit="kcal/mol"))
    assert told.get_potential_energy() == pytest.approx(-units.kcal / units.mol)


def test_labels_that_contradict_do_not_stop_a_structure(tmp_path):
    atoms = water(0)
    atoms.info["REF_energy"] = 7.0
    ase.io.write(tmp_path / "a.extxyz", atoms)
    stream = open_structures(tmp_path / "a.extxyz")
    (frame,) = stream
    assert frame.energy is None
    assert "'energy' and 'REF_energy'" in stream.log.unlabelled
    with pytest.raises(DataError, match="EQ3033"):
        read_frames(tmp_path / "a.extxyz")


def test_lengths_are_converted(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", water(0))
    options = ReadOptions(length_unit="Bohr", energy_unit="Hartree")
    plain, found = water(0), read_structure(tmp_path / "a.extxyz", options)
    np.testing.assert_allclose(found.positions, plain.positions * units.Bohr, atol=1e-7)
    np.testing.assert_allclose(found.cell.array, plain.cell.array * units.Bohr, rtol=1e-6)
    assert found.get_potential_energy() == pytest.approx(-units.Hartree, rel=1e-6)
    assert found.constraints[0].index.tolist() == [0]


def test_one_structure_is_asked_for(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [water(number) for number in range(3)])
    with pytest.raises(ConfigError, match=r"EQ1962.*index ':2' names 2 frames"):
        read_structure(f"{tmp_path / 'a.extxyz'}@:2")
    assert [atoms.info["name2"] for atoms in read_structures(f"{tmp_path / 'a.extxyz'}@::-2")] == ["w2", "w0"]
