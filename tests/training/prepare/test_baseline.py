"""Delta learning: labels of differences, what is remembered, failures with the frame's number, and the sum again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from toys import SAMPLE, WATER

from eqff import artifact
from eqff.artifact.potential import Prediction
from eqff.data.differences import difference
from eqff.data.frame import Frame
from eqff.data.frame_list import FrameList
from eqff.data.reading.read import read_frames
from eqff.data.splits import load_split, random_split, split_from_indices
from eqff.data.store.store import Store, write_store
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError
from eqff.tasks.evaluate import evaluate
from eqff.tasks.predict import PredictConfig, run_predict
from eqff.training.folder.run_file import BASELINE
from eqff.training.folder.trained import export_run, load_run
from eqff.training.prepare.baseline import differences
from eqff.training.prepare.baseline_results import CACHE
from eqff.training.run import train

EMT_NAME = "ase.calculators.emt:EMT"
RECIPE = """
[data]
train = "{sample}"
energy_unit = "kcal/mol"
baseline = "{baseline}"
n_train = 12
n_validation = 4

[model]
family = "nequip"
l_max = 1
n_layers = 1
n_channels = 4
r_max = 3.0
radial_hidden = [8]

[training]
epochs = 2
batch_size = 6
warmup_steps = 1
kernels = "reference"
report = false
export_best = false
"""
OWN = """
from ase.calculators.emt import EMT

n_calls = 0

class Counting(EMT):
    def calculate(self, *arguments, **more):
        global n_calls
        n_calls += 1
        if {failing} == n_calls:
            raise RuntimeError("SCF did not converge")
        super().calculate(*arguments, **more)

def make():
    return Counting()
"""


@pytest.fixture
def frames() -> FrameList:
    return FrameList(read_frames(SAMPLE, energy_unit="kcal/mol"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A baseline of one's own in a module, which counts its calls and can fail at one of them."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(failing: int = 0) -> Any:
        import importlib
        import sys

        (tmp_path / "own_baseline.py").write_text(OWN.format(failing=failing))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.delitem(sys.modules, "own_baseline", raising=False)
        return importlib.import_module("own_baseline")

    return module


def exported(folder: Path) -> Path:
    export_run(folder, folder / "best.eqff.pt")
    return folder


def emt(frame: Frame) -> Atoms:
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = EMT()
    return atoms


def recipe(place: Path, name: str, more: str = "") -> Path:
    path = place / "recipe.toml"
    path.write_text(RECIPE.format(sample=SAMPLE, baseline=name) + more)
    return path


def test_labels_are_those_of_the_file_minus_the_baseline(frames: FrameList) -> None:
    split = random_split(len(frames), 5, 2, seed=0)
    used, told = differences(frames, split, EMT_NAME, False, None, "sample")
    for row in [*split.train, *split.validation]:
        atoms = emt(frames[row])
        assert used[row].energy == pytest.approx(frames[row].energy - atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(used[row].forces, frames[row].forces - atoms.get_forces(), atol=1e-12)
        assert used[row].positions is frames[row].positions
    for row in split.test:  # nobody may train on labels that are no differences
        assert np.isnan(used[row].energy)
        assert np.isnan(used[row].forces).all()
    assert told.file is None
    check = told.record["check"]
    assert check["energy"] == pytest.approx(emt(frames[min(split.train)]).get_potential_energy())


def test_frames_of_a_store_and_labels_that_are_missing(frames: FrameList, tmp_path: Path) -> None:
    write_store(tmp_path / "a.h5", frames[:4])
    split = split_from_indices(4, train=[0, 2], validation=[3])
    with Store(tmp_path / "a.h5") as store:
        used, _ = differences(store, split, EMT_NAME, False, None, "a.h5")
        assert len(used) == 4
        assert [np.isnan(frame.energy) for frame in used] == [False, True, False, False]
    assert difference(frames[0], Prediction(1.0, None, np.ones((9, 3)), None)).stress is None


def test_stress_is_a_difference_too() -> None:
    frames = FrameList(read_frames(WATER))
    assert frames[0].stress is not None
    split = split_from_indices(len(frames), train=[0], validation=[1])
    used, _ = differences(frames, split, EMT_NAME, True, None, "water")
    np.testing.assert_allclose(used[0].stress, frames[0].stress - emt(frames[0]).get_stress(), atol=1e-12)


def test_a_baseline_without_stress_is_refused_where_it_is_trained(frames: FrameList) -> None:
    split = split_from_indices(len(frames), train=[3], validation=[1])
    differences(frames, split, EMT_NAME, True, None, "sample")  # no frame has a stress
    labelled = FrameList([replace(frame, stress=np.zeros(6)) for frame in frames])
    with pytest.raises(ConfigError, match=r"EQ1441.*frame 1"):  # the baseline has none for a molecule
        differences(labelled, split, EMT_NAME, True, None, "sample")


def test_a_failure_names_the_frame_and_what_was_computed_is_kept(frames: FrameList, own: Any, tmp_path: Path) -> None:
    split = split_from_indices(len(frames), train=[2, 5, 7, 11], validation=[9])
    own(failing=4)
    with pytest.raises(ConfigError, match=r"EQ1440.*ethanol: frame 9.*SCF did not converge"):
        differences(frames, split, "own_baseline:make", False, tmp_path / "run", "ethanol")
    assert (tmp_path / "run" / CACHE).is_file()
    with np.load(tmp_path / "run" / CACHE) as file:
        assert len(file["energy"]) == 3


def test_results_are_remembered_until_frames_or_baseline_change(frames: FrameList, own: Any, tmp_path: Path) -> None:
    split = split_from_indices(len(frames), train=[2, 5, 7], validation=[9])
    folder = tmp_path / "member-0"
    module = own()
    first, _ = differences(frames, split, "own_baseline:make", False, folder, "ethanol")
    assert module.n_calls == 4
    again, _ = differences(frames, split, "own_baseline:make", False, folder, "ethanol")
    differences(frames, split, "own_baseline:make", False, tmp_path / "member-1", "ethanol")  # of a committee
    assert module.n_calls == 4
    for row in (2, 5, 7, 9):
        assert again[row].energy == first[row].energy
        np.testing.assert_array_equal(again[row].forces, first[row].forces)
    moved = list(frames)
    moved[5] = Frame(**{**vars(frames[5]), "positions": frames[5].positions + 1e-3})
    differences(FrameList(moved), split, "own_baseline:make", False, folder, "ethanol")
    assert module.n_calls == 5
    module = own(failing=-1)  # another text of the same module
    differences(frames, split, "own_baseline:make", False, folder, "ethanol")
    assert module.n_calls == 4
    (folder / CACHE).write_bytes(b"damaged")
    module = own(failing=-2)
    differences(frames, split, "own_baseline:make", False, folder, "ethanol")
    assert module.n_calls == 4


def test_a_run_gives_a_potential_that_brings_its_baseline(
    frames: FrameList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eqff.exporter.prove_in_fresh_process", lambda path: None)
    folder = exported(train(recipe(tmp_path, EMT_NAME), tmp_path / "run").folder)
    header = artifact.inspect(folder / "best.eqff.pt")
    assert header["baseline"]["name"] == EMT_NAME
    validation = load_split(folder / "split.json").validation
    labelled = [frames[row] for row in validation]
    found = evaluate(artifact.load(folder / "best.eqff.pt"), labelled).metrics  # of the sum, against whole labels
    run = load_run(folder)  # of the difference, against differences
    assert found["forces_mae_meV_A"] == pytest.approx(run.validation["forces_mae_meV_A"], rel=1e-4)
    assert found["energy_mae_meV"] == pytest.approx(run.validation["energy_mae_meV"], rel=1e-4)
    assert found["energy_mae_meV"] < 5e3  # labels are 4,200 eV
    structures = [emt(frame) for frame in labelled]
    for atoms in structures:
        atoms.calc = None
    ase.io.write(tmp_path / "in.extxyz", structures)
    potential = artifact.load(folder / "best.eqff.pt")
    report = run_predict(PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz"), potential)
    assert report.program.endswith(EMT_NAME)
    calculator = EqffCalculator(folder / "best.eqff.pt")
    for atoms in ase.io.read(tmp_path / "out.extxyz", ":"):
        assert atoms.info["eqff_energy"] == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-5)
        np.testing.assert_allclose(atoms.arrays["eqff_forces"], calculator.get_forces(atoms), atol=1e-5)


def test_a_resumed_run_does_not_compute_the_baseline_again(own: Any, tmp_path: Path) -> None:
    module = own()
    path = recipe(tmp_path, "own_baseline:make")
    train(path, tmp_path / "run", overrides=["training.epochs=1"])
    assert module.n_calls == 16
    train(path, tmp_path / "run", resume=True, overrides=["training.epochs=2"])
    assert module.n_calls == 16
    with pytest.raises(ConfigError, match=r"EQ1442.*own_baseline:make.*EMT"):
        train(path, tmp_path / "run", resume=True, overrides=[f"data.baseline={EMT_NAME}"])


def test_a_potential_as_baseline_lies_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqff.exporter.prove_in_fresh_process", lambda path: None)
    first = exported(train(recipe(tmp_path, EMT_NAME), tmp_path / "first").folder)
    (tmp_path / "base.eqff.pt").write_bytes((first / "best.eqff.pt").read_bytes())
    second = train(recipe(tmp_path, "base.eqff.pt"), tmp_path / "second", overrides=["training.epochs=1"]).folder
    exported(second)
    assert (second / BASELINE).read_bytes() == (tmp_path / "base.eqff.pt").read_bytes()
    (tmp_path / "base.eqff.pt").unlink()
    told = artifact.inspect(second / "best.eqff.pt")["baseline"]
    assert told["name"] == "base.eqff.pt"  # and not where it lay
    assert str(tmp_path) not in json.dumps(told)
    atoms = emt(read_frames(SAMPLE, energy_unit="kcal/mol")[0])
    whole = EqffCalculator(second / "best.eqff.pt").get_potential_energy(atoms)
    potential = artifact.load(second / "best.eqff.pt")
    structure = potential.structure(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
    below = EqffCalculator(first / "best.eqff.pt").get_potential_energy(atoms)
    assert whole == pytest.approx(float(potential(structure).energy[0]) + below, abs=1e-6)


def test_a_worse_baseline_is_told(frames: FrameList, caplog: pytest.LogCaptureFixture) -> None:
    split = split_from_indices(len(frames), train=[0], validation=[1])
    with caplog.at_level("INFO", logger="eqff.training"):
        differences(frames, split, EMT_NAME, False, None, "sample")
    assert "more to learn, not less" in caplog.text
