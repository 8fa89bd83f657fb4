"""The guard stops what is unsound, names the atoms, and lets everything else pass."""

import math

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from hypothesis import given
from hypothesis import strategies as st

from eqff.errors import ConfigError, PotentialError, RunError
from eqff.tasks.md import Limits, MDConfig, run_md
from eqff.tasks.md.guard import ClosePairs, Guard, Moment, pair_limits, trained_distance


def moment(atoms, energy=0.0, forces=None, momenta=None):
    nothing = np.zeros((len(atoms), 3))
    forces, momenta = (nothing if array is None else array for array in (forces, momenta))
    return Moment(5, atoms.positions, momenta, atoms.cell.array, energy, forces, None)


def guard(atoms, **limits):
    return Guard(Limits(**limits), atoms, temperature=300.0, n_free=27, conserved="total energy")


def test_sound_structures_pass():
    for atoms in (molecule("CH3CH2OH"), molecule("H2"), bulk("NaCl", "rocksalt", a=5.64), Atoms("H"), molecule("C60")):
        guard(atoms).check(moment(atoms), 0.0, 300.0, 0.0)


@pytest.mark.parametrize("factor", [0.45, 0.3, 0.05])
def test_close_atoms_are_named(factor):
    atoms = molecule("CH3CH2OH")
    watch = guard(atoms)
    watch.check(moment(atoms), 0.0, 300.0, 0.0)
    atoms.positions[3] = atoms.positions[2] + factor * (atoms.positions[3] - atoms.positions[2])
    distance = atoms.get_distance(2, 3)
    with pytest.raises(RunError, match=rf"EQ5110: atoms 2 \(O\) and 3 \(H\) are {distance:.3f} Å apart, closer than"):
        watch.check(moment(atoms), 0.0, 300.0, 0.0)


def test_limits_come_from_radii_training_data_or_the_user():
    oxygen, hydrogen = covalent_radii[8], covalent_radii[1]
    assert pair_limits(None, None, None)[8, 1] == pytest.approx(0.5 * (oxygen + hydrogen))
    assert pair_limits(None, None, 0.9)[8, 1] == pytest.approx(0.72)
    assert pair_limits(None, None, 0.9)[6, 6] == pytest.approx(covalent_radii[6])  # 0.76 is more than 0.72
    assert (pair_limits(None, 0.3, 0.9) == 0.3).all()


def test_shortest_distance_of_training_is_read_from_the_header():
    def calculator(header):
        return type("Calculator", (), {"potential": type("Potential", (), {"header": header})})()

    assert trained_distance(calculator({"training_data": {"min_distance_A": 0.88}})) == 0.88
    for header in ({}, {"training_data": None}, {"training_data": {"min_distance_A": None}}, None):
        assert trained_distance(calculator(header)) is None
    assert trained_distance(EMT()) is None


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.05, 0.2, 0.5]))
def test_no_close_pair_is_missed_while_atoms_and_cell_move(seed, periodic, step):
    """Against all distances with minimum images, over a walk that the list of candidates must follow."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("H6", positions=rng.uniform(0, 6, (6, 3)), cell=np.eye(3) * 6 + rng.normal(0, 0.3, (3, 3)))
    atoms.pbc = periodic
    watch = ClosePairs(atoms, pair_limits(atoms.numbers, 1.0, None))
    for _ in range(12):
        distances = atoms.get_all_distances(mic=periodic)[np.triu_indices(6, 1)]
        if distances.min() < 1.0:
            with pytest.raises(RunError) as caught:
                watch.check(atoms.positions, atoms.cell.array)
            assert f"are {distances.min():.3f} Å apart" in caught.value.message
        else:
            watch.check(atoms.positions, atoms.cell.array)
        atoms.positions += rng.normal(0, step, (6, 3))
        if periodic:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.1 * step, (3, 3))), scale_atoms=True)


def test_an_atom_meets_its_own_image():
    atoms = Atoms("Cu", cell=[3.0, 3.0, 1.1], pbc=True)
    with pytest.raises(RunError, match=r"atoms 0 \(Cu\) and 0 \(Cu\) \(a periodic image\) are 1.100 Å apart"):
        guard(atoms).check(moment(atoms), 0.0, 300.0, 0.0)


def test_each_limit_stops_at_its_value():
    atoms = molecule("H2O")

    def push(atom, size):
        vectors = np.zeros((3, 3))
        vectors[atom, 1] = size
        return vectors

    def check(watch, energy=0.0, kinetic=0.0, temperature=300.0, conserved=0.0, **arrays):
        watch.check(moment(atoms, energy, **arrays), kinetic, temperature, conserved)

    watch = guard(atoms, max_force=50.0, max_jump=0.1, max_temperature=900.0)
    check(watch, forces=push(1, -49.9))
    assert watch.max_force_seen == pytest.approx(49.9)
    with pytest.raises(RunError, match=r"EQ5104: force on atom 1 \(H\) is 50.1 eV/Å, above 50 eV/Å"):
        check(watch, forces=push(1, 50.1))
    check(watch, energy=-0.2, kinetic=0.49)  # 0.29 of 0.3 eV
    with pytest.raises(RunError, match=r"EQ5111: .* jumped by \+0.103 eV/atom.*largest force is on atom 2 \(H\)"):
        check(watch, energy=0.2, kinetic=0.4, forces=push(2, 3.0))
    check(watch, kinetic=0.29, temperature=899.0)
    with pytest.raises(RunError, match=r"EQ5106: the temperature is 901 K, above 900 K; atom 0 \(O\) has the largest"):
        check(watch, kinetic=0.29, temperature=901.0, momenta=push(0, 1.0))
    with pytest.raises(RunError, match=r"EQ5105: the total energy has changed by -1.01 eV/atom"):
        check(watch, kinetic=0.29, conserved=-3.03)


def test_without_limits_only_numbers_that_are_not_finite_stop():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.05]])
    watch = Guard(None, atoms, 300.0, 6, "total energy")
    watch.check(moment(atoms, forces=np.full((2, 3), 1e6)), 0.0, 1e9, 0.0)
    watch.check(moment(atoms, energy=1e9), 0.0, 1e9, 1e12)
    bad = np.array([[0.0, 0, 0], [0, math.inf, 0]])
    with pytest.raises(RunError, match=r"EQ5102: force of atom 1 \(H\) is"):
        watch.check(moment(atoms, forces=bad), 0.0, 0.0, 0.0)
    with pytest.raises(RunError, match=r"EQ5102: momentum of atom 1 \(H\) is"):
        watch.check(moment(atoms, momenta=bad), 0.0, 0.0, 0.0)
    with pytest.raises(RunError, match=r"EQ5103: potential energy is nan"):
        watch.check(moment(atoms, energy=math.nan), 0.0, 0.0, 0.0)
    assert "off" in str(watch)


def test_the_limits_are_told():
    text = str(Guard(Limits(), molecule("CH3CH2OH"), 500.0, 27, "", 0.884))
    for words in ("distances < 0.71 to 0.76 Å by element", "forces > 100 eV/Å", "> 6667 K", "> 0.5 eV/atom"):
        assert words in text
    assert "distances < 0.50 Å," in str(Guard(Limits(min_distance=0.5), molecule("CH4"), 300.0, 27))


@pytest.mark.parametrize("options", [{"max_force": 0.0}, {"min_distance": -1.0}, {"max_jump": math.nan}])
def test_limits_out_of_range_are_named(options):
    with pytest.raises(ConfigError, match=f"EQ1262: {next(iter(options))}="):
        Limits(**options)


class Spring(Calculator):
    """Two atoms on a spring of 1.5 Å and 20 eV/Å^2, in an energy well that is 5 eV deep or not there."""

    implemented_properties = ("energy", "forces")

    def __init__(self, breaks_at=math.inf, error=None):
        super().__init__()
        self.breaks_at, self.error, self.n_calls = breaks_at, error, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        broken = self.n_calls > self.breaks_at
        if broken and self.error:
            raise self.error
        vector = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(vector)
        force = -20.0 * (length - 1.5) * vector / length
        self.results = {"energy": 10.0 * (length - 1.5) ** 2 + 5.0 * broken, "forces": np.array([-force, force])}


def dimer(length=1.5):
    return Atoms("Ar2", positions=[[0, 0, 0], [length, 0, 0]])


def config(tmp_path, **options):
    return MDConfig(trajectory=tmp_path / "traj.extxyz", steps=100, guard=Limits(min_distance=0.7), **options)


@pytest.mark.parametrize(
    ("error", "id", "words"),
    [
        (None, "EQ5111", "the total energy jumped by +2.5 eV/atom in one step"),
        (PotentialError("EQ4161", "result: atom 1 has energy nan"), "EQ5101", "result: atom 1 has energy nan"),
    ],
)
def test_last_good_and_offending_frame_are_kept_and_named(tmp_path, error, id, words):
    said = []
    with pytest.raises(RunError) as caught:
        run_md(config(tmp_path), dimer(), Spring(breaks_at=14, error=error), announce=said.append)
    assert caught.value.id == id
    for part in (words, "step 14 of 100", "traj_last_good.extxyz", "traj_offending.extxyz"):
        assert part in caught.value.message
    assert "distances < 0.70 Å" in said[0]
    good, bad = (ase.io.read(tmp_path / f"traj_{name}.extxyz") for name in ("last_good", "offending"))
    assert (good.info["step"], bad.info["step"]) == (13, 14)
    assert words in bad.info["reason"]
    assert np.abs(bad.positions - good.positions).max() < 0.01
    assert bad.positions[0] != pytest.approx(good.positions[0], abs=1e-7)
    assert good.get_potential_energy() == pytest.approx(10.0 * (good.get_distance(0, 1) - 1.5) ** 2, abs=1e-6)
    assert (bad.calc is None) == (error is not None)
    with pytest.raises(ConfigError, match=r"EQ1204.*_last_good.extxyz exists|EQ1204.*traj.extxyz exists"):
        run_md(config(tmp_path), dimer(), Spring())
    run_md(config(tmp_path, force=True), dimer(), Spring())
    assert not (tmp_path / "traj_offending.extxyz").exists()


def test_a_bad_start_is_refused_before_any_file_is_touched(tmp_path):
    with pytest.raises(RunError, match=r"EQ5110: step 0: atoms 0 \(Ar\) and 1 \(Ar\) are 0.600 Å apart.*relax"):
        run_md(config(tmp_path), dimer(0.6), Spring())
    with pytest.raises(RunError, match=r"EQ4161: step 0"):
        run_md(config(tmp_path), dimer(), Spring(breaks_at=0, error=PotentialError("EQ4161", "not finite")))
    with pytest.raises(PotentialError):  # nothing to do with the structure
        run_md(config(tmp_path), dimer(), Spring(breaks_at=0, error=PotentialError("EQ4101", "no such file")))
    assert list(tmp_path.iterdir()) == []


def test_the_guard_changes_no_number(tmp_path):
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    for name, limits in (("a", Limits()), ("b", None)):
        run_md(
            MDConfig(trajectory=tmp_path / f"{name}.xyz", steps=10, timestep=4.0, temperature=900.0, guard=limits),
            atoms,
            EMT(),
        )
    assert (tmp_path / "a.xyz").read_bytes() == (tmp_path / "b.xyz").read_bytes()


def test_a_compressed_molecule_of_the_shipped_potential_is_stopped_by_name(tmp_path):
    from eqff import EqffCalculator
    from eqff.artifact import default_structure

    atoms = ase.io.read(default_structure("ethanol-nequip"))
    atoms.positions *= 0.7
    options = {"trajectory": tmp_path / "a.xyz", "steps": 10}
    with pytest.raises(RunError, match=r"EQ5110: step 0: atoms \d \((O|H)\) and \d \((O|H)\) are 0.6\d+ Å apart"):
        run_md(MDConfig(**options), atoms, EqffCalculator("ethanol-nequip"))
    only_force = MDConfig(guard=Limits(min_distance=0.1), **options)
    with pytest.raises(RunError, match=r"step \d.* (on )?atom \d \((C|O|H)\)"):
        run_md(only_force, atoms, EqffCalculator("ethanol-nequip"))
