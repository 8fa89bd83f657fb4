import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.trajectory import Trajectory

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import ConfigError, DataError


def test_a_trajectory_that_ase_wrote(tmp_path):
    random = np.random.default_rng(0)
    cell = np.diag([5.0, 6.0, 7.0])
    with Trajectory(str(tmp_path / "a.traj"), "w") as trajectory:
        for k in range(3):
            atoms = Atoms("CO", random.normal(size=(2, 3)) + np.array([[0, 0, 0], [4, 0, 0]]), cell=cell, pbc=True)
            results = {"energy": -1.0 - k, "forces": random.normal(size=(2, 3)), "stress": random.normal(size=6)}
            atoms.calc = SinglePointCalculator(atoms, **results)
            trajectory.write(atoms)
    source = Source(tmp_path / "a.traj")
    with Trajectory(str(tmp_path / "a.traj")) as trajectory:
        for frame, atoms in zip(source.frames, trajectory, strict=True):
            np.testing.assert_array_equal(frame.positions, atoms.positions)
            np.testing.assert_array_equal(frame.forces, atoms.get_forces())
            np.testing.assert_array_equal(frame.stress, atoms.get_stress())
            np.testing.assert_array_equal(frame.cell, cell)
            assert frame.energy == atoms.get_potential_energy()
            assert frame.pbc.all()
    assert source.provenance["ase_format"] == "traj"


@pytest.mark.parametrize(
    ("name", "format"), [("POSCAR", "vasp"), ("a.cif", "cif"), ("a.json", "json"), ("a.gen", "gen")]
)
def test_other_kinds_of_file_fall_back_to_ase(tmp_path, name, format):
    atoms = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=np.diag([5.6, 5.6, 5.6]), pbc=True)
    write(tmp_path / name, atoms, format=format)
    assert find_format(tmp_path / name) == "ase_files"
    (frame,) = read_frames(tmp_path / name)
    assert sorted(frame.atomic_numbers.tolist()) == [11, 17]
    np.testing.assert_allclose(np.diag(frame.cell), 5.6)
    assert frame.pbc.all()
    assert frame.energy is None


def test_damaged_trajectories(tmp_path):
    with Trajectory(str(tmp_path / "a.traj"), "w") as trajectory:
        for k in range(5):
            trajectory.write(Atoms("Ar", positions=[[k, 0, 0]]))
    content = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "cut.traj").write_bytes(content[:-40])
    with pytest.raises(DataError, match=r"EQ3219.*cannot be read by ASE as 'traj'"):
        read_frames(tmp_path / "cut.traj")
    (tmp_path / "text.traj").write_text("hello")
    with pytest.raises(DataError, match="EQ3219"):
        read_frames(tmp_path / "text.traj")


@pytest.mark.parametrize(
    ("name", "content", "id", "words"),
    [
        ("a.py", "from ase import Atoms\n", "EQ3218", "could be read safely"),
        ("a.dat2", "999999999999\n\nO 0 0 0\n", "EQ3946", "looks like XYZ"),
        ("a.traj.gz", "x", "EQ3944", "unpack it first"),
        ("a.unknown", "nothing that anybody knows", "EQ3945", "no kind of file that ASE knows"),
    ],
)
def test_what_is_not_given_to_ase(tmp_path, name, content, id, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{id}.*{words}"):
        read_frames(tmp_path / name, format="ase_files")
    with pytest.raises(DataError, match=r"EQ3040|EQ3041"):
        read_frames(tmp_path / name)


def test_keys_and_units(tmp_path):
    atoms = Atoms("CO", [[0, 0, 0], [1.1, 0, 0]], info={"mp2": -3.0})
    write(tmp_path / "a.traj", atoms)
    source = Source(tmp_path / "a.traj", ReadOptions(energy_key="mp2", energy_unit="Hartree"))
    assert source.frames[0].energy == pytest.approx(-3 * 27.211386)


def dump(path, columns="id type x y z", row="1 2 0.5 0 0"):
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    path.write_text(f"{head}ITEM: ATOMS {columns}\n{row}\n2 1 {row.split(maxsplit=2)[2].replace('0.5', '2.5')}\n")
    return path


def test_types_of_a_dump_are_no_elements(tmp_path):
    path = dump(tmp_path / "a.lammpstrj")
    with pytest.raises(DataError, match=r"EQ3741.*--types Si,O"):
        Source(path)
    for types in ("O,Si", "1=O,2=Si", "1=O 2=Si"):
        (frame,) = read_frames(path, types=types)
        assert frame.atomic_numbers.tolist() == [14, 8]
        assert frame.energy is None  # ASE would say 0
        assert frame.forces is None
    with pytest.raises(ConfigError, match="EQ1035"):
        read_frames(path, types="1=Zz")


def test_a_dump_with_elements_and_forces(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", "id type element x y z fx fy fz", "1 2 Si 0.5 0 0 0.1 0 0")
    (frame,) = read_frames(path)
    assert frame.atomic_numbers.tolist() == [14, 14]
    assert frame.forces[0].tolist() == [0.1, 0.0, 0.0]
    assert frame.energy is None


def test_masses_of_a_lammps_data_file_are_elements(tmp_path):
    ase.io.write(tmp_path / "a.lmp", bulk("NaCl", "rocksalt", a=5.6), format="lammps-data")
    ase.io.write(tmp_path / "b.lmp", bulk("NaCl", "rocksalt", a=5.6), format="lammps-data", masses=True)
    with pytest.raises(DataError, match="EQ3741"):
        read_frames(tmp_path / "a.lmp", format="lammps-data")
    assert sorted(read_frames(tmp_path / "b.lmp", format="lammps-data")[0].atomic_numbers) == [11, 17]
    assert sorted(read_frames(tmp_path / "a.lmp", format="lammps-data", types="Cl,Na")[0].atomic_numbers) == [11, 17]
    text = (tmp_path / "b.lmp").read_text().replace("35.4", "30.4")
    (tmp_path / "c.lmp").write_text(text)
    with pytest.raises(DataError, match="EQ3741"):
        read_frames(tmp_path / "c.lmp", format="lammps-data")


def test_a_format_of_ase_by_name(tmp_path):
    ase.io.write(tmp_path / "cell.dat", bulk("Si"), format="vasp")
    assert read_frames(tmp_path / "cell.dat", format="vasp")[0].atomic_numbers.tolist() == [14, 14]
    with pytest.raises(ConfigError, match=r"EQ1920.*vasp-xml"):
        read_frames(tmp_path / "cell.dat", format="vasp-xlm")


def test_an_isotope_that_ase_does_not_know(tmp_path):
    ase.io.write(tmp_path / "POSCAR", bulk("Si"), format="vasp")
    (tmp_path / "POSCAR").write_text((tmp_path / "POSCAR").read_text().replace("Si", "D "))
    with pytest.raises(DataError, match=r"EQ3742.*isotope D"):
        read_frames(tmp_path / "POSCAR")


def test_units_and_types_of_a_dump(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", "id type element x y z fx fy fz", "1 2 Si 0.5 0 0 1.0 0 0")
    path.write_text(path.read_text().replace("ITEM: TIMESTEP", "ITEM: UNITS\nreal\nITEM: TIMESTEP"))
    assert read_frames(path)[0].forces[0, 0] == pytest.approx(1 / 23.060548)
    for types in ("Si", "2=Si"):  # type 1 or 2 has no name
        with pytest.raises(DataError, match="EQ3743"):
            read_frames(dump(tmp_path / "b.lammpstrj"), types=types)


def test_a_data_file_of_lammps_by_its_contents(tmp_path):
    ase.io.write(tmp_path / "b.data", bulk("NaCl", "rocksalt", a=5.6), format="lammps-data", masses=True)
    assert sorted(read_frames(tmp_path / "b.data")[0].atomic_numbers) == [11, 17]
