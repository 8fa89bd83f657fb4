"""The relax verb from end to end on the shipped potential of ethanol."""

import inspect
import json
from dataclasses import fields

import ase.io
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from typer.testing import CliRunner

from eqff import cli
from eqff.cli import relax
from eqff.tasks.relax import RelaxConfig


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    app, runner = cli.build(), CliRunner()
    options = ["--threads", str(torch.get_num_threads())]
    return lambda *arguments: runner.invoke(app, ["relax", "ethanol-nequip", *map(str, arguments), *options])


def write_starts(*seeds):
    frames = []
    for seed in seeds:
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    frames[0].set_constraint(FixAtoms([0]))
    ase.io.write("starts.extxyz", frames)


def test_the_potentials_own_structure_and_three_files(run, tmp_path):
    result = run()
    assert result.exit_code == 0, result.output
    names = ["relaxed.extxyz", "relaxed.png", "relaxed_trajectory.extxyz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for word in ("1 of 1 converged to fmax=0.01 eV/Å", "C2H6O", *names):
        assert word in result.output


def test_many_structures_as_json(run):
    write_starts(0, 1)
    result = run("starts.extxyz", "-o", "new/out.traj", "--json", "--fmax", 0.05)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n_converged"] == 2
    assert [one["converged"] for one in report["results"]] == [True, True]
    assert all(one["max_force_eV_A"] < 0.05 for one in report["results"])
    assert all(one["n_force_calls"] == one["n_steps"] + 1 for one in report["results"])
    final = ase.io.read("new/out.traj", ":")
    assert final[0].constraints[0].get_indices().tolist() == [0]
    assert [one["energy_eV"] for one in report["results"]] == [atoms.get_potential_energy() for atoms in final]


def test_what_does_not_converge_exits_with_1_and_is_written(run, tmp_path):
    write_starts(0, 1)
    result = run("starts.extxyz", "--index", "1", "--steps", 2, "--no-plot", "--no-trajectory", "--optimizer", "FIRE")
    assert result.exit_code == 1
    assert result.exception.id == "EQ5320"
    assert "1 of 1 structures did not converge (structure 0) within 2 steps" in str(result.exception)
    assert "NOT CONVERGED" in result.output
    assert ase.io.read("relaxed.extxyz").info["relax_converged"] == False  # noqa: E712  numpy's
    assert sorted(path.name for path in tmp_path.iterdir()) == ["relaxed.extxyz", "starts.extxyz"]


def test_a_periodic_cell(run):
    atoms = molecule("CH3CH2OH", cell=[6.0, 6.2, 5.5], pbc=True)
    ase.io.write("box.extxyz", atoms)
    result = run("box.extxyz", "--cell", "--fmax", 0.2, "-o", "out.xyz")
    assert result.exit_code == 0, result.output
    assert "stress GPa" in result.output
    final = ase.io.read("out.xyz")
    for text in ("volume Å^3", f"{atoms.cell.volume:.3f}", f"{final.cell.volume:.3f}", "change", "start eV"):
        assert text in result.output
    (one,) = json.loads(run("box.extxyz", "--cell", "--fmax", 0.2, "-o", "out.xyz", "--force", "--json").stdout)[
        "results"
    ]
    assert one["start_cell_A_degrees"] == pytest.approx([6.0, 6.2, 5.5, 90, 90, 90])
    assert one["volume_change_percent"] == pytest.approx(100 * (final.cell.volume / (6.0 * 6.2 * 5.5) - 1), abs=1e-6)
    assert abs(final.cell.volume - atoms.cell.volume) > 0.1
    assert final.get_stress().shape == (6,)


def test_every_foreign_composition_is_named_once(run):
    ase.io.write("many.extxyz", [molecule(name) for name in ("CH3CH2OH", "CH3OH", "H2O", "CH4", "H2O")])
    result = run("many.extxyz", "--steps", 50, "--fmax", 0.1)
    assert result.stderr.count("warning") == 1
    assert "energies of CH4O, H2O, CH4 have an unknown constant" in result.stderr
    found = json.loads(run("many.extxyz", "--fmax", 0.1, "--force", "--json").stdout)
    assert found["unknown_compositions"] == ["CH4O", "H2O", "CH4"]


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["absent.xyz"], "EQ3024"),
        (["empty.xyz"], "EQ3925"),
        (["argon.xyz"], "EQ2101"),
        (["starts.extxyz", "--index", "5"], "EQ3106"),
        (["starts.extxyz", "--index", "x"], "EQ1961"),
        (["starts.extxyz@0", "--index", "0"], "EQ1960"),
        (["starts.extxyz", "--cell"], "EQ1245"),
        (["starts.extxyz", "-o", "out.pdb"], "EQ1243"),
        (["starts.extxyz", "-o", "starts.extxyz", "--force"], "EQ1249"),
        (["starts.extxyz", "-o", "taken.xyz"], "EQ1247"),
    ],
)
def test_errors(run, tmp_path, arguments, id):
    write_starts(0)
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "taken.png").write_text("precious")
    ase.io.write("argon.xyz", Atoms("Ar"))
    before = sorted(tmp_path.iterdir())
    result = run(*arguments)
    assert result.exit_code != 0
    assert result.exception.id == id
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "taken.png").read_text() == "precious"


def test_a_lone_file_needs_structures(run, tmp_path):
    from eqff.artifact import find

    (tmp_path / "lone.eqff.pt").write_bytes(find("ethanol-nequip").read_bytes())
    result = CliRunner().invoke(cli.build(), ["relax", "lone.eqff.pt"])
    assert result.exception.id == "EQ1211"


def test_defaults_are_those_of_the_task():
    options = {name: parameter.default for name, parameter in inspect.signature(relax.command).parameters.items()}
    renamed = {"keep_trajectory": "trajectory"}
    for field in fields(RelaxConfig):
        assert options[renamed.get(field.name, field.name)] == field.default


class AskedError(Exception):
    """Carries what a calculator was asked for."""


@pytest.mark.parametrize(("arguments", "expected"), [((), "ready"), (("--accelerate", "off"), "off")])
def test_the_program_is_chosen(run, monkeypatch, arguments, expected):
    def calculator(potential, **options):
        raise AskedError(options["accelerate"])

    monkeypatch.setattr("eqff.engines.ase.EqffCalculator", calculator)
    assert str(run(*arguments).exception) == expected
    assert run("--accelerate", "auto").exit_code == 2  # compiling in the background is for long runs


def test_a_structure_stopped_by_an_error_is_not_said_to_need_more_steps_alone(run):
    atoms = molecule("CH3CH2OH")
    atoms.positions *= 0.6
    ase.io.write("squeezed.extxyz", atoms)
    result = run("squeezed.extxyz", "--no-plot")
    assert result.exception.id == "EQ5320"
    assert "1 of them stopped by an error, see relax_problem" in str(result.exception)
    assert "EQ5321" in ase.io.read("relaxed.extxyz").info["relax_problem"]
