"""The md verb from end to end on an exported potential with random weights."""

import inspect
import json
from dataclasses import fields

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from typer.testing import CliRunner

from eqff import cli, config
from eqff import exporter as export
from eqff.cli import md
from eqff.engines.ase import EqffCalculator
from eqff.models import nequip
from eqff.tasks.md import Limits, MDConfig


@pytest.fixture(scope="module")
def potentials(tmp_path_factory):
    """A directory of named potentials with one member, `toy`, and its structure."""
    directory = tmp_path_factory.mktemp("potentials")
    (directory / "toy").mkdir()
    settings = nequip.Config(species=("H", "C", "O"), r_max=3.0, l_max=1, n_layers=2, n_channels=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nequip.Model(settings)
    export.export(model, "nequip", config.to_mapping(settings), directory / "toy" / "toy.eqff.pt")
    ase.io.write(directory / "toy" / "structure.xyz", molecule("CH3CH2OH"))
    return directory


@pytest.fixture
def run(potentials, monkeypatch, tmp_path):
    monkeypatch.setenv("EQFF_POTENTIALS", str(potentials))
    monkeypatch.chdir(tmp_path)
    app, runner = cli.build(), CliRunner()
    return lambda *arguments: runner.invoke(app, ["md", *map(str, arguments)])


def test_named_potential_brings_its_structure_and_leaves_three_files(run, tmp_path):
    result = run("toy", "--steps", 20)
    assert result.exit_code == 0, result.output
    for word in ("C2H6O", "20 steps of 0.5 fs", "ns/day", "meV/atom/ps", "traj.extxyz", "traj.csv", "traj.png"):
        assert word in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "traj.csv",
        "traj.extxyz",
        "traj.png",
        "traj.restart.npz",
    ]
    frames = ase.io.read(tmp_path / "traj.extxyz", ":")
    assert len(frames) == 3
    stored = frames[-1].get_forces()
    frames[-1].calc = EqffCalculator("toy")
    np.testing.assert_allclose(stored, frames[-1].get_forces(), atol=1e-5)


def test_json_and_structure_file_and_no_plot(run, tmp_path):
    ase.io.write(tmp_path / "pair.xyz", [molecule("CH4"), molecule("H2O")])
    n_threads = torch.get_num_threads()
    options = ["--ensemble", "nvt", "--steps", 4, "-o", "a/run.xyz", "--no-plot", "--json", "--threads", n_threads]
    result = run("toy", "--structure", "pair.xyz@0", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n_atoms"] == 5
    assert report["n_steps"] == 4
    assert report["drift_meV_per_atom_per_ps"] is None
    assert report["trajectory"] == "a/run.xyz"
    assert report["picture"] is None
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["run.csv", "run.restart.npz", "run.xyz"]


def test_nothing_is_overwritten_without_force(run, tmp_path):
    (tmp_path / "traj.png").write_text("precious")
    assert run("toy", "--steps", 1).exception.id == "EQ1210"
    assert [path.name for path in tmp_path.iterdir()] == ["traj.png"]
    assert run("toy", "--steps", 1, "--force").exit_code == 0
    assert (tmp_path / "traj.png").read_bytes()[1:4] == b"PNG"
    again = run("no-such-potential", "--steps", 1).exception  # the trajectory is named first, before anything is loaded
    assert again.message.startswith("traj.extxyz exists; choose another name, continue it with --resume, or")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["toyy"], "toy"),
        (["toy", "--structure", "absent.xyz"], "absent.xyz"),
        (["toy", "--structure", "garbage.xyz"], "expected a number of atoms"),
        (["toy", "--structure", "argon.xyz"], "Ar"),
        (["toy", "--ensemble", "npt"], "periodic in three directions"),
        (["toy", "--timestep", "-1"], "timestep=-1.0"),
        (["toy", "--dtype", "float12"], "float12"),
        (["toy", "--structure", "two.xyz@7"], "names none of its"),
        (["toy", "--structure", "two.xyz@:"], "names 2 frames; choose one with FILE@N"),
        (["toy", "--structure", "huge.xyz"], "announces 999999999999 atoms"),
        (["toy", "--structure", "two.xyz", "-o", "two.xyz", "--force"], "would overwrite the structure"),
    ],
)
def test_errors_name_the_culprit(run, tmp_path, arguments, words):
    (tmp_path / "garbage.xyz").write_text("three\nblind mice\n")
    ase.io.write(tmp_path / "argon.xyz", ase.Atoms("Ar"))
    ase.io.write(tmp_path / "two.xyz", [molecule("CH4"), molecule("H2O")])
    (tmp_path / "huge.xyz").write_text("999999999999\n\nH 0 0 0\n")
    result = run(*arguments)
    assert result.exit_code != 0
    assert words in str(result.exception)
    assert not (tmp_path / "traj.extxyz").exists()


def test_ensembles_may_be_written_in_capitals(run):
    assert run("toy", "--steps", 1, "--ensemble", "NVT").exit_code == 0


def test_a_lone_file_needs_a_structure(run, potentials, tmp_path):
    path = tmp_path / "lone.eqff.pt"
    path.write_bytes((potentials / "toy" / "toy.eqff.pt").read_bytes())
    assert "--structure" in str(run(path).exception)


def test_a_run_is_continued_and_its_files_equal_those_of_one_part(run, tmp_path):
    options = ["toy", "--ensemble", "nvt", "--interval", 3, "--no-guard"]
    assert run(*options, "--steps", 12, "-o", "whole.extxyz").exit_code == 0
    assert run(*options, "--steps", 7, "-o", "parts.extxyz").exit_code == 0
    result = run(*options, "--steps", 12, "-o", "parts.extxyz", "--resume")
    assert result.exit_code == 0, result.output
    assert "resumed      at step 7" in result.output
    for suffix in (".extxyz", ".csv"):
        assert (tmp_path / f"parts{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    error = run(*options, "--steps", 12, "-o", "parts.extxyz", "--resume", "--temperature", 310).exception
    assert error.id == "EQ1264"
    assert "temperature: 300.0 -> 310.0" in error.message
    error = run(*options, "--steps", 12, "-o", "parts.extxyz", "--resume", "--dtype", "float64").exception
    assert "dtype: auto -> float64" in error.message


def test_replicas_are_numbered_and_drawn(run, tmp_path):
    result = run("toy", "--steps", 3, "--replicas", 2, "-o", "r.traj", "--json")
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)["replicas"]
    assert [report["trajectory"] for report in reports] == ["r_0.traj", "r_1.traj"]
    suffixes = (".csv", ".png", ".restart.npz", ".traj")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"r_{i}{suffix}" for i in (0, 1) for suffix in suffixes]


def test_constant_pressure_in_words_and_json(run, tmp_path):
    ase.io.write("crystal.extxyz", bulk("C", "diamond", a=3.57, cubic=True))
    options = ["--structure", "crystal.extxyz", "--ensemble", "npt", "--no-guard", "--timestep", 0.1]
    said = run("toy", *options, "--steps", 4).output
    for word in ("volume       45", "density      3.5", "pressure     ", "target 0.0001 GPa", "at the start 3.5700 x"):
        assert word in said
    cell = json.loads(run("toy", *options, "--steps", 4, "--force", "--json").stdout)["cell"]
    assert cell["density_g_cm3"] == pytest.approx(3.51, rel=0.02)  # diamond
    assert cell["start_A_degrees"] == pytest.approx([3.57] * 3 + [90.0] * 3)
    assert run("toy", *options[:2], "--steps", 1, "--force").output.count("g/cm^3") == 1


def test_limits_of_the_guard_are_printed_and_stop_the_run(run, tmp_path):
    result = run("toy", "--steps", 2)
    assert "guard: stops at distances <" in result.output
    result = run("toy", "--steps", 2, "--force", "--min-distance", 1.05)
    assert result.exception.id == "EQ5110"
    assert "atoms 2 (O) and 3 (H) are 0.97" in result.exception.message
    assert "guard: off" in run("toy", "--steps", 2, "--force", "--no-guard").output


def test_defaults_are_those_of_the_task():
    options = {name: parameter.default for name, parameter in inspect.signature(md.command).parameters.items()}
    renamed = {"pressure_gpa": "pressure", "trajectory": "output"}
    for field in fields(MDConfig):
        if field.name not in ("log_interval", "guard"):
            assert options[renamed.get(field.name, field.name)] == field.default
    assert options["guard"] is True
    for field in fields(Limits):
        assert options[field.name] == field.default


def test_momenta_of_the_file_are_not_dropped_without_a_word(run):
    atoms = molecule("CH3CH2OH")
    atoms.set_momenta(np.full((9, 3), 0.1))
    ase.io.write("moving.extxyz", atoms)
    start = ("toy", "--structure", "moving.extxyz", "--steps", 2, "--no-plot", "--force")
    assert "momenta in moving.extxyz are not used" in run(*start).stderr
    assert "momenta" not in run(*start, "--keep-momenta").stderr
