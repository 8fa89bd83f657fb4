"""Relaxation: ASE's own optimiser, a scan of the lattice constant, constraints, and what happens when it fails."""

import warnings

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from scipy.optimize import minimize_scalar
from torch import nn
from toys import Bonds, potential_of

from eqff.artifact.potential import Potential
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, GraphError
from eqff.tasks.relax import RelaxConfig, relax, run_relax


class Hole(nn.Module):
    """Atoms attract each other the more the nearer they are."""

    def forward(self, species, senders, receivers, edge_vector):
        pair = -1.0 / (edge_vector**2).sum(1)
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


def calculator(module=None):
    """With a count of evaluations."""
    return EqffCalculator(potential_of(module or Bonds(0.0)))


def start(seed, size=0.05):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(size, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def minimum():
    """The cluster that these pairs make of ethanol; starts near it lead to one minimum."""
    atoms, result = relax(RelaxConfig(fmax=1e-3), start(0), calculator())
    assert result.converged
    return atoms


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire", "bfgs"])
def test_three_starts_end_where_ases_bfgs_ends(optimizer, minimum):
    config = RelaxConfig(fmax=1e-3, optimizer=optimizer)
    for seed in range(3):
        given = minimum.copy()
        given.rattle(0.03, seed=seed)
        before, expected = given.copy(), given.copy()
        expected.calc = calculator()
        BFGS(expected, logfile=None).run(fmax=1e-3, steps=500)
        calc = calculator()
        atoms, result = relax(config, given, calc)
        assert result.converged
        assert result.max_force < 1e-3
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() == pytest.approx(result.max_force, rel=1e-12)
        assert result.energy == atoms.get_potential_energy()
        assert result.energy == pytest.approx(expected.get_potential_energy(), abs=1e-5)
        assert result.n_force_calls == calc.potential.evaluator.n_calls == result.n_steps + 1
        assert given == before, "the caller's atoms stay"


def test_cell_and_atoms_relax_to_the_lattice_constant_of_a_scan():
    def energy(a):
        atoms = bulk("C", "fcc", a=a)
        atoms.calc = calculator()
        return atoms.get_potential_energy()

    best = minimize_scalar(energy, bounds=(1.4, 2.6), method="bounded", options={"xatol": 1e-7})
    atoms = bulk("C", "fcc", a=best.x * 1.03)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.03 * np.random.default_rng(0).normal(size=(3, 3))), scale_atoms=True
    )
    relaxed, result = relax(RelaxConfig(fmax=1e-5, cell=True), atoms, calculator())
    assert result.converged
    assert result.energy == pytest.approx(best.fun, abs=1e-8)
    assert relaxed.cell.lengths() == pytest.approx([best.x / np.sqrt(2)] * 3, abs=1e-4)
    assert np.abs(relaxed.get_stress()).max() < 1e-5
    assert result.max_stress_gpa == pytest.approx(np.abs(relaxed.get_stress()).max() * 160.2176634, rel=1e-6)


def test_lattice_and_volume_before_and_after():
    atoms = bulk("C", "fcc", a=1.9)
    final, result = relax(RelaxConfig(fmax=1e-2, cell=True), atoms, calculator(Bonds(0.0)))
    np.testing.assert_allclose(result.start_cell, atoms.cell.cellpar())
    np.testing.assert_allclose(result.cell, final.cell.cellpar())
    assert result.start_volume == pytest.approx(1.9**3 / 4)
    assert result.volume == pytest.approx(final.get_volume())
    assert result.energy - result.start_energy == pytest.approx(result.energy_change)
    _, positions_only = relax(RelaxConfig(steps=0), atoms, calculator(Bonds(0.0)))
    assert positions_only.cell is positions_only.volume is None


def test_scipys_remark_about_the_logarithm_of_the_cell_does_not_reach_the_user(tmp_path, monkeypatch):
    def remarking(atoms, *options, **more):
        warnings.warn("logm result may be inaccurate, approximate err = 7e-13", RuntimeWarning, stacklevel=1)
        return stress(atoms, *options, **more)

    stress = Atoms.get_stress
    monkeypatch.setattr(Atoms, "get_stress", remarking)  # where SciPy warns: warnings are errors in these tests
    config = RelaxConfig(fmax=0.1, cell=True, output=tmp_path / "relaxed.extxyz")
    assert relax(config, bulk("C", "fcc", a=1.9), calculator())[1].converged
    assert run_relax(config, [bulk("C", "fcc", a=1.9)], calculator()).n_converged == 1


def test_cell_with_several_atoms_ends_where_ases_bfgs_ends():
    for seed in range(3):
        atoms = bulk("CO", "rocksalt", a=2.6)
        atoms.rattle(0.03, seed=seed)
        expected = atoms.copy()
        expected.calc = calculator()
        BFGS(FrechetCellFilter(expected), logfile=None).run(fmax=1e-3, steps=300)
        _, result = relax(RelaxConfig(fmax=1e-3, cell=True), atoms, calculator())
        assert result.converged
        assert result.energy == pytest.approx(expected.get_potential_energy(), abs=1e-5)
        assert result.n_force_calls < 80


def test_symmetry_of_the_start_is_kept():
    atoms, result = relax(RelaxConfig(fmax=1e-4), molecule("CH4"), calculator())
    assert result.n_steps > 3
    assert np.ptp(atoms.get_distances(0, [1, 2, 3, 4])) < 1e-9
    assert np.ptp([atoms.get_angle(j, 0, k) for j in range(1, 5) for k in range(1, j)]) < 1e-6


def test_files_of_many_structures(tmp_path):
    frames = [start(0), Atoms("O", info={"name": "lone", "energy": 7.0}), start(1)]
    frames[2].set_constraint(FixAtoms([0, 4]))
    frames[2].arrays["tag"] = np.arange(9)
    config = RelaxConfig(fmax=0.01, output=tmp_path / "new" / "out.extxyz")
    seen = []
    report = run_relax(config, frames, calculator(), seen.append)
    assert report.n_converged == 3
    assert sorted(path.name for path in config.output.parent.iterdir()) == ["out.extxyz", "out_trajectory.extxyz"]
    final = ase.io.read(config.output, ":")
    assert [len(atoms) for atoms in final] == [9, 1, 9]
    assert [atoms.info["relax_converged"] for atoms in final] == [True] * 3
    assert final[1].info["name"] == "lone"
    assert "energy" not in final[1].info, "a label of another geometry"
    assert final[2].arrays["tag"].tolist() == list(range(9))
    assert final[2].constraints[0].get_indices().tolist() == [0, 4]
    np.testing.assert_allclose(final[2].positions[[0, 4]], frames[2].positions[[0, 4]], atol=1e-8)
    for atoms, result in zip(final, report.results, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(result.energy, abs=1e-8)
        forces = atoms.get_forces()
        atoms.calc = calculator()
        np.testing.assert_allclose(forces, atoms.get_forces(apply_constraint=True), atol=1e-6)
    every = ase.io.read(config.trajectory, ":")
    assert len(every) == len(seen) == sum(result.n_force_calls for result in report.results)
    written = [(atoms.info["relax_structure"], atoms.info["relax_step"]) for atoms in every]
    assert written == sorted(step[:2] for step in seen)
    np.testing.assert_allclose(every[0].positions, frames[0].positions, atol=1e-8)
    assert [atoms.info["relax_converged"] for atoms in every].count(True) == 3


def test_other_constraints_need_a_traj_file(tmp_path):
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLength(0, 1))
    length = atoms.get_distance(0, 1)
    with pytest.raises(ConfigError, match=r"EQ1246: structure 0: \.xyz cannot hold FixBondLengths"):
        run_relax(RelaxConfig(output=tmp_path / "a.xyz"), [atoms], calculator())
    config = RelaxConfig(output=tmp_path / "a.traj")
    run_relax(config, [atoms], calculator())
    final = ase.io.read(config.output)
    assert final.get_distance(0, 1) == pytest.approx(length, abs=1e-9)
    assert type(final.constraints[0]).__name__ == "FixBondLengths"
    assert final.info["relax_converged"] is True
    assert len(ase.io.read(config.trajectory, ":")) > 3


def test_what_does_not_converge_is_marked_and_the_rest_goes_on(tmp_path):
    lone = Atoms("O")
    config = RelaxConfig(fmax=1e-3, steps=8, output=tmp_path / "out.xyz", keep_trajectory=False)
    report = run_relax(config, [start(0, 0.1), lone, Atoms("Ar"), lone], calculator())
    assert [result.converged for result in report.results] == [False, True, False, True]
    assert report.n_converged == 2
    assert report.results[0].n_steps == 8
    assert report.results[0].problem == ""
    assert "EQ2101: structure 2: species: atom 0 is Ar" in report.results[2].problem
    final = ase.io.read(config.output, ":")
    assert [atoms.info["relax_converged"] for atoms in final] == [False, True, False, True]
    assert "atom 0 is Ar" in final[2].info["relax_problem"]
    assert final[0].info["relax_fmax"] > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["out.xyz"]


def test_a_hole_of_the_potential_stops_the_walk(tmp_path):
    pair = Atoms("H2", [[0, 0, 0], [0, 0, 1.0]])
    report = run_relax(RelaxConfig(output=tmp_path / "out.xyz"), [pair], calculator(Hole()))
    (result,) = report.results
    assert not result.converged
    assert "EQ5321: step " in result.problem
    assert result.max_force < 1e3
    assert np.isfinite(ase.io.read(tmp_path / "out.xyz").get_forces()).all()


def test_when_nothing_can_be_evaluated_nothing_is_written(tmp_path):
    for frames, words in (
        ([Atoms("Ar"), Atoms("Xe")], "EQ2101"),
        ([Atoms("H", [[np.nan, 0, 0]])], "EQ2103: structure 0"),
    ):
        with pytest.raises(GraphError, match=words):
            run_relax(RelaxConfig(output=tmp_path / "out.xyz"), frames, calculator())
    assert list(tmp_path.iterdir()) == []


def test_interrupted_runs_keep_what_was_done(tmp_path):
    def interrupt(step):
        if (step.structure, step.step) == (1, 2):
            raise KeyboardInterrupt

    config = RelaxConfig(output=tmp_path / "out.xyz")
    with pytest.raises(KeyboardInterrupt):
        run_relax(config, [start(0), start(1), start(2)], calculator(), interrupt)
    final = ase.io.read(config.output, ":")
    assert [(atoms.info["relax_converged"], atoms.info["relax_step"]) for atoms in final] == [
        *((False, 2), (False, 2), (False, 1))
    ]
    every = ase.io.read(config.trajectory, ":")
    assert [(atoms.info["relax_structure"], atoms.info["relax_step"]) for atoms in every] == [
        *((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1))
    ]
    assert ase.io.read(config.trajectory, "2").positions == pytest.approx(final[0].positions)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "out_trajectory.xyz"]


def test_nothing_is_overwritten_without_force(tmp_path):
    for name in ("out.xyz", "out_trajectory.xyz"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ConfigError, match=f"EQ1244: .*{name} exists"):
            run_relax(RelaxConfig(output=tmp_path / "out.xyz"), [start(0)], calculator())
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    (tmp_path / "out.xyz").write_text("old")
    run_relax(RelaxConfig(output=tmp_path / "out.xyz", force=True), [start(0)], calculator())
    assert len(ase.io.read(tmp_path / "out.xyz")) == 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "newton"}, "EQ1240: optimizer='newton' is unknown; choose from bfgs, lbfgs, fire"),
        ({"fmax": 0.0}, "EQ1241: fmax=0.0"),
        ({"fmax": float("nan")}, "EQ1241: fmax=nan"),
        ({"steps": -1}, "EQ1242: steps=-1"),
        ({"output": "a.pdb"}, "EQ1243: output=a.pdb"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ConfigError, match=words):
        RelaxConfig(**options)


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_the_cell_needs_three_periodic_directions(pbc):
    atoms = bulk("C", "fcc", a=2.0)
    atoms.pbc = pbc
    with pytest.raises(ConfigError, match="EQ1245: structure: pbc="):
        relax(RelaxConfig(cell=True), atoms, calculator())


def test_constant_volume_relaxes_the_shape_only(tmp_path):
    atoms = bulk("Cu", cubic=True, a=3.5)
    atoms.set_cell(np.diag([3.6, 3.45, 3.45]), scale_atoms=True)
    config = RelaxConfig(cell=True, constant_volume=True, fmax=1e-3)
    end, course = relax(config, atoms, EMT())
    assert course.converged
    assert end.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-6)
    np.testing.assert_allclose(end.cell.lengths(), atoms.get_volume() ** (1 / 3), rtol=1e-4)
    with pytest.raises(ConfigError, match="EQ1248"):
        RelaxConfig(constant_volume=True)


@pytest.mark.parametrize("cell", [False, True])
def test_structures_side_by_side_take_the_steps_of_each_alone(cell, tmp_path):
    crystals = []
    for seed in range(5):
        atoms = bulk("Si", cubic=seed % 2 == 0)
        atoms.rattle(0.02 * (seed + 1), seed=seed)
        crystals.append(atoms)
    counted = EqffCalculator("si-nequip", dtype="float64")
    options = {"cell": cell, "fmax": 0.005}
    report = run_relax(RelaxConfig(output=tmp_path / "all.xyz", **options), crystals, counted)
    assert len({result.n_steps for result in report.results}) > 1
    final = ase.io.read(tmp_path / "all.xyz", ":")
    for atoms, result, together in zip(crystals, report.results, final, strict=True):
        alone, course = relax(RelaxConfig(**options), atoms, EqffCalculator("si-nequip", dtype="float64"))
        assert (course.n_steps, course.converged) == (result.n_steps, result.converged)
        assert course.energy == pytest.approx(result.energy, abs=1e-9)
        np.testing.assert_allclose(alone.positions, together.positions, atol=1e-6)
        np.testing.assert_allclose(alone.cell, together.cell, atol=1e-6)


def test_structures_that_have_moved_are_evaluated_together(tmp_path, monkeypatch):
    sizes = []
    original = Potential.predict_batch
    monkeypatch.setattr(
        Potential, "predict_batch", lambda self, batch: sizes.append(len(batch)) or original(self, batch)
    )
    run_relax(RelaxConfig(output=tmp_path / "out.xyz", steps=3), [start(k) for k in range(4)], calculator())
    assert sizes == [4, 4, 4, 4]


def test_the_space_group_is_kept(tmp_path):
    spglib = pytest.importorskip("spglib")
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(np.diag([5.3, 5.3, 5.6]), scale_atoms=True)  # tetragonal
    shaken = atoms.copy()
    shaken.rattle(0.001, seed=1)

    def group(one):
        return spglib.get_spacegroup((one.cell.array, one.get_scaled_positions(), one.numbers), symprec=1e-4)

    config = RelaxConfig(output=tmp_path / "out.xyz", cell=True, fix_symmetry=True, fmax=0.02)
    (result,) = run_relax(config, [shaken], EqffCalculator("si-nequip", dtype="float64")).results
    assert result.converged
    final = ase.io.read(config.output)
    assert group(shaken) == "P1 (1)"
    assert group(final) in ("I4_1/amd (141)", "Fd-3m (227)")
    assert not final.constraints
    with pytest.raises(ConfigError, match="EQ1237"):
        run_relax(RelaxConfig(output=tmp_path / "b.xyz", fix_symmetry=True), [start(0)], calculator())


def test_side_by_side_charges_are_still_noticed(tmp_path):
    charged = start(0)
    charged.info["charge"] = 1
    strict = EqffCalculator(potential_of(Bonds(), species=("H", "C", "O")), strict=True)
    report = run_relax(RelaxConfig(output=tmp_path / "out.xyz", steps=2), [start(1), charged], strict)
    assert [bool(result.problem) for result in report.results] == [False, True]
    assert "EQ2114" in report.results[1].problem
