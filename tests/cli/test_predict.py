"""The predict verb from end to end on an exported potential with random weights."""

import inspect
import json
from dataclasses import fields

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from toys import SAMPLE
from typer.testing import CliRunner

from eqff import cli, config
from eqff import exporter as export
from eqff.cli import predict
from eqff.data.reading.read import read_frames
from eqff.data.reading.write import write_frames
from eqff.engines.ase import EqffCalculator
from eqff.models import nequip
from eqff.tasks.predict import PredictConfig


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    path = tmp_path_factory.mktemp("potential") / "toy.eqff.pt"
    settings = nequip.Config(species=("H", "C", "O"), r_max=3.0, l_max=1, n_layers=2, n_channels=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nequip.Model(settings)
    export.export(model, "nequip", config.to_mapping(settings), path)
    return path


@pytest.fixture
def run(potential, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    app, runner = cli.build(), CliRunner()
    return lambda *arguments: runner.invoke(app, ["predict", str(potential), *map(str, arguments)])


@pytest.fixture
def source(tmp_path):
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = SinglePointCalculator(ethanol, energy=1.0, forces=np.zeros((9, 3)))
    ase.io.write(tmp_path / "in.extxyz", [ethanol, bulk("C", "diamond", a=3.5), molecule("H2O")])
    return tmp_path / "in.extxyz"


def test_a_few_frames_are_listed_with_energies_forces_and_errors(run, source, tmp_path):
    output = run("in.extxyz", "-o", "out.extxyz").output
    frames = ase.io.read("out.extxyz", ":")
    for index, frame in enumerate(frames):
        largest = np.linalg.norm(frame.arrays["eqff_forces"], axis=1).max()
        (row,) = [line.split() for line in output.splitlines() if line.split()[:1] == [str(index)]]
        assert row[1:4] == [frame.get_chemical_formula(), f"{frame.info['eqff_energy']:.6f}", f"{largest:.4f}"]
    report = json.loads(run("in.extxyz", "-o", "out.extxyz", "--force", "--json").stdout)
    first, second, _ = report["listed"]
    assert first["energy_error_eV"] == pytest.approx(frames[0].info["eqff_energy"] - 1.0, abs=1e-5)
    assert first["forces_mae_eV_A"] == pytest.approx(np.abs(frames[0].arrays["eqff_forces"]).mean(), abs=1e-5)
    assert second["energy_error_eV"] is None
    ase.io.write("many.extxyz", [molecule("H2O")] * 11)
    assert "largest force" not in run("many.extxyz", "-o", "many_out.extxyz").output


def test_a_shift_of_the_level_of_theory_is_taken_off_beside_the_whole_error(run):
    frames = []
    for seed in range(3):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    ase.io.write("plain.extxyz", frames)
    run("plain.extxyz", "-o", "plain_out.extxyz")
    for frame, done in zip(frames, ase.io.read("plain_out.extxyz", ":"), strict=True):
        frame.calc = SinglePointCalculator(frame, energy=done.info["eqff_energy"] - 30.0)
    ase.io.write("shifted.extxyz", frames)
    result = run("shifted.extxyz", "-o", "shifted_out.extxyz")
    assert "10000" in result.output  # meV/atom
    assert "without the mean error of the composition" in result.output
    listed = json.loads(run("shifted.extxyz", "-o", "shifted_out.extxyz", "--force", "--json").stdout)["listed"]
    assert [one["energy_error_eV"] for one in listed] == pytest.approx([30.0] * 3, abs=1e-4)
    assert [one["energy_error_aligned_eV"] for one in listed] == pytest.approx([0.0] * 3, abs=1e-4)


def test_prints_what_was_done_and_errors_with_units(run, source, potential, tmp_path):
    result = run("in.extxyz", "-o", "out.extxyz")
    assert result.exit_code == 0, result.output
    for word in ("out.extxyz: 3 frames, 14 atoms", "frames/s", "energy per atom", "meV/atom", "forces", "meV/Å"):
        assert word in result.output
    assert "stress" not in result.output  # no label
    frame = ase.io.read("out.extxyz", 0)
    calculator = EqffCalculator(potential)
    exact = calculator.get_potential_energy(frame)
    assert frame.info["eqff_energy"] == pytest.approx(exact, abs=1e-4)
    assert frame.get_potential_energy() == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.extxyz", "out.extxyz"]
    again = run("in.extxyz", "-o", "out.extxyz")
    assert again.exception.id == "EQ1221"
    finished = run("in.extxyz", "-o", "out.extxyz", "--resume")
    assert "finished; nothing was done" in finished.output


def test_json(run, source):
    result = run("in.extxyz", "-o", "out.extxyz", "--json", "--shard", "2/2", "--as-calculator")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["first"], report["n_frames"], report["output"]) == (1, 2, "out.extxyz")
    frames = ase.io.read("out.extxyz", ":")
    assert all(np.isfinite(atoms.get_forces()).all() for atoms in frames)


def test_bad_frames(run, source):
    ase.io.write("bad.extxyz", [molecule("H2O"), Atoms("Ar"), molecule("H2O")])
    stopped = run("bad.extxyz", "-o", "out.extxyz")
    assert stopped.exception.exit_code == 3
    assert "bad.extxyz: frame 1: species: atom 0 is Ar" in str(stopped.exception)
    result = run("bad.extxyz", "-o", "out.extxyz", "--skip-bad", "--resume")
    assert result.exit_code == 0
    assert "1 of 3 frames have no results" in result.stderr
    assert len(ase.io.read("out.extxyz", ":")) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.xyz", "-o", "out.xyz"], "no such file"),
        (["in.extxyz", "-o", "out.traj"], "ends in .extxyz or .xyz"),
        (["in.extxyz", "-o", "in.extxyz", "--force"], "would overwrite the frames"),
        (["in.extxyz", "-o", "out.xyz", "--shard", "5/4"], "shard=5/4"),
        (["in.extxyz", "-o", "out.xyz", "--shard", "half"], "shard=half"),
        (["in.extxyz", "-o", "out.xyz", "--energy-key", "other"], "has no 'other' for energy"),
        (["in.extxyz", "-o", "out.xyz", "--dtype", "float12"], "float12"),
    ],
)
def test_errors_name_the_culprit(run, source, tmp_path, arguments, words):
    before = source.read_bytes()
    result = run(*arguments)
    assert result.exit_code != 0
    assert words in str(result.exception)
    assert not (tmp_path / "out.xyz").exists()
    assert source.read_bytes() == before


def test_defaults_are_those_of_the_task():
    options = {name: parameter.default for name, parameter in inspect.signature(predict.command).parameters.items()}
    for field in fields(PredictConfig):
        if field.name not in ("source", "output", "shard", "reading", "references"):
            assert options[field.name] == field.default
    assert options["shard"] == "1/1"


class AskedError(Exception):
    """Carries the program that was asked for."""


@pytest.mark.parametrize(("arguments", "expected"), [((), "ready"), (("--accelerate", "off"), "off")])
def test_the_program_is_chosen(run, source, monkeypatch, arguments, expected):
    def loaded(potential, device, dtype, accelerate):
        raise AskedError(accelerate)

    monkeypatch.setattr("eqff.artifact.load", loaded)
    assert str(run("in.extxyz", "-o", "out.extxyz", *arguments).exception) == expected


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.db", "a.traj", "a.extxyz", "deepmd"])
def test_reads_what_data_reads(run, tmp_path, name):
    write_frames(name, read_frames(f"{SAMPLE}@:5"), format="deepmd" if name == "deepmd" else None)
    result = run(f"{name}@2:4", "-o", "out.extxyz", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["first"], report["n_frames"], report["errors"]["forces_n"]) == (2, 2, 2 * 27)
    expected = read_frames(SAMPLE)[3]
    frame = ase.io.read("out.extxyz", 1)
    np.testing.assert_allclose(frame.positions, expected.positions, atol=1e-8)
    assert frame.get_potential_energy() == pytest.approx(expected.energy, abs=1e-6)
