"""What a resumed run may change, what it may not, and what is said about it; no training here."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from eqff import config as config_io
from eqff.errors import ConfigError, RunError
from eqff.training.config import RunConfig
from eqff.training.folder.run_file import BEST, LAST
from eqff.training.prepare.baseline import Differences
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.records import check_same_run, prepare_folder, write_records

RECIPE: Mapping[str, Any] = {
    "data": {"train": "/home/frames.npz", "n_train": 10, "n_validation": 2},
    "model": {"family": "nequip", "l_max": 1},
    "init_from": "/home/start.eqff.pt",
    "training": {"epochs": 10},
}


def prepared(mapping: Mapping[str, Any], frames: str = "a" * 64, split: str = "b" * 64) -> Any:
    config = config_io.from_mapping(RunConfig, mapping, where="recipe")
    return SimpleNamespace(config=config, source=SimpleNamespace(sha256=frames), split=SimpleNamespace(sha256=split))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(config_io.to_toml(prepared(RECIPE).config))
    (tmp_path / "model.json").write_text(f'{{"data": {{"source_sha256": "{"a" * 64}", "split_sha256": "{"b" * 64}"}}}}')
    return tmp_path


def changed(section: str, **values: Any) -> dict[str, Any]:
    if section == "":
        return {**RECIPE, **values}
    return {**RECIPE, section: {**RECIPE[section], **values}}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (RECIPE, []),
        (changed("data", train="/scratch/moved.npz"), ["data.train: '/home/frames.npz' -> '/scratch/moved.npz'"]),
        (changed("", init_from="/scratch/start.eqff.pt"), ["init_from"]),
        (changed("training", epochs=20), ["training.epochs: 10 -> 20", "new schedule"]),
        (changed("training", threads=2), ["training.threads: 0 -> 2", "rounding differs"]),
        (changed("training", devices=2), ["training.devices: 1 -> 2", "rounding differs"]),
        (
            changed("training", validate_every=5, checkpoint_minutes=1.0),
            ["checkpoint_minutes", "validate_every: 1 -> 5"],
        ),
    ],
)
def test_changes_that_may_be_are_said(
    mapping: Mapping[str, Any], said: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "eqff.training"):
        check_same_run(folder, prepared(mapping))
    assert all(text in caplog.text for text in said)
    assert bool(caplog.text) == bool(said)


@pytest.mark.parametrize(
    ("mapping", "shown"),
    [
        (changed("training", learning_rate=0.5), "training.learning_rate: 0.01 -> 0.5"),
        (changed("training", loss={"energy_per_atom": 3.0}), "training.loss.energy_per_atom: 1.0 -> 3.0"),
        (changed("training", batch_size=7), "training.batch_size: 5 -> 7"),
        (changed("training", dtype="float64"), "training.dtype"),
        (changed("model", l_max=2), "model.l_max: 1 -> 2"),
        (changed("", init_from="/home/other.eqff.pt"), "init_from"),
        (changed("", init_from=None), "init_from: '/home/start.eqff.pt' -> None"),
        (changed("data", split_seed=1), "data.split_seed"),
    ],
)
def test_changes_that_make_another_run_are_refused_and_shown(
    mapping: Mapping[str, Any], shown: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match="EQ1067") as caught:
        check_same_run(folder, prepared(mapping))
    assert shown in caught.value.message
    assert f"eqff train {folder / 'config.toml'} -o {folder} --resume" in caught.value.message


def test_a_baseline_may_move_and_be_no_other(folder: Path) -> None:
    (folder / "config.toml").write_text(config_io.to_toml(prepared(changed("data", baseline="/home/b.eqff.pt")).config))
    check_same_run(folder, prepared(changed("data", baseline="/scratch/b.eqff.pt")))
    for other in ("/home/other.eqff.pt", None):
        with pytest.raises(ConfigError, match=r"EQ1067.*data\.baseline: '/home/b\.eqff\.pt' -> "):
            check_same_run(folder, prepared(changed("data", baseline=other)))


def test_numbers_that_older_versions_wrote_beside_a_saved_split(folder: Path) -> None:
    old = changed("data", split="/home/split.json", n_train=950, n_validation=50)
    (folder / "config.toml").write_text(config_io.to_toml(prepared(old).config))
    check_same_run(folder, prepared(changed("data", split="/home/split.json")))
    with pytest.raises(ConfigError, match=r"EQ1067.*split \(sha256\)"):
        check_same_run(folder, prepared(changed("data", split="/home/split.json"), split="c" * 64))


def test_processes_may_not_change_where_batches_are_of_each(folder: Path) -> None:
    recipe = changed("training", max_edges=100)
    (folder / "config.toml").write_text(config_io.to_toml(prepared(recipe).config))
    check_same_run(folder, prepared(recipe))
    with pytest.raises(ConfigError, match=r"training\.devices: 1 -> 2"):
        check_same_run(folder, prepared(changed("training", max_edges=100, devices=2)))


def test_other_frames_in_the_same_file_are_seen(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"frames \(sha256\): 'aaaaaaaaaaaa' -> 'cccccccccccc'"):
        check_same_run(folder, prepared(RECIPE, frames="c" * 64))
    with pytest.raises(ConfigError, match=r"split \(sha256\)"):
        check_same_run(folder, prepared(RECIPE, split="c" * 64))


def test_a_run_killed_between_its_first_files_is_compared_as_far_as_they_go(folder: Path) -> None:
    (folder / "model.json").unlink()
    check_same_run(folder, prepared(RECIPE))
    (folder / "config.toml").unlink()
    check_same_run(folder, prepared(changed("training", learning_rate=0.5)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a checkpoint", b"text"])
def test_a_damaged_checkpoint_is_named(content: bytes, folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / LAST).write_bytes(content)
    with pytest.raises(RunError, match=r"EQ5220.*last\.ckpt.*--init-from"):
        check_same_run(folder, prepared(RECIPE))


def test_fewer_epochs_than_were_done(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    torch.save({"progress": [7, 0, 0]}, folder / LAST)
    check_same_run(folder, prepared(changed("training", epochs=7)))
    with pytest.raises(RunError, match=r"EQ5221.*epochs=6.*7 epochs"):
        check_same_run(folder, prepared(changed("training", epochs=6)))


def test_which_folders_a_run_may_use(tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare_folder(run, resume=False)
    with pytest.raises(ConfigError, match="EQ1066"):
        prepare_folder(run, resume=True)
    run.mkdir()
    (run / ".config.0123456789abcdef.part.toml").touch()  # killed while the first file was written
    prepare_folder(run, resume=False)
    prepare_folder(run, resume=True)
    (run / "config.toml").touch()
    prepare_folder(run, resume=True)  # stopped before its first checkpoint
    with pytest.raises(ConfigError, match="EQ1068"):
        prepare_folder(run, resume=False)
    (run / "checkpoints").mkdir()
    (run / BEST).touch()
    with pytest.raises(ConfigError, match="EQ1073"):  # the last checkpoint was deleted: nothing starts over the best
        prepare_folder(run, resume=True)
    (run / LAST).touch()
    prepare_folder(run, resume=True)


def test_every_key_that_may_change_is_one(folder: Path) -> None:
    from eqff.training.records import FREE, PROCESSES, ROUNDING, SCHEDULE

    config = prepared(RECIPE).config
    names = {f"training.{field.name}" for field in dataclasses.fields(config.training)}
    names |= {f"data.{field.name}" for field in dataclasses.fields(config.data)} | {"preset"}
    assert {*FREE, *PROCESSES, *ROUNDING, *SCHEDULE} <= names


@pytest.mark.parametrize(("told", "kept"), [("", "GFN2-xTB (tblite)"), ("PBE", "PBE")])
def test_level_of_theory_is_that_of_the_file_unless_the_recipe_states_one(
    told: str, kept: str, tmp_path: Path, smallest_recipe: str
) -> None:
    sample = Path(__file__).parents[1] / "data" / "files" / "ethanol_gfn2_20frames.npz"
    arrays = dict(np.load(sample)) | {"theory": np.array("GFN2-xTB (tblite)")}
    np.savez(tmp_path / "frames.npz", **arrays)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe.replace(str(sample), "frames.npz").replace('"GFN2-xTB"', f'"{told}"'))
    found = prepare(read_config(recipe, ['training.kernels="reference"']))
    write_records(tmp_path, found.config, found)
    assert json.loads((tmp_path / "model.json").read_text())["data"]["level_of_theory"] == kept


def test_the_structure_left_is_calm_and_has_atoms_enough(tmp_path: Path) -> None:
    """An isolated atom has no forces at all; labels and cell are as in the file, whatever a baseline makes of them."""
    crystals = [bulk("Si", cubic=True) for _ in range(4)]
    for atoms, force in zip(crystals, (3.0, 0.2, 1.0, 2.0), strict=True):
        atoms.rattle(0.05 * force)
        forces = np.zeros((8, 3))
        forces[3, 1] = -force
        atoms.calc = SinglePointCalculator(atoms, energy=-8.0 * force, forces=forces)
    alone = Atoms("Si", cell=[9.0] * 3, pbc=True)
    alone.calc = SinglePointCalculator(alone, energy=-1.0, forces=np.zeros((1, 3)))
    ase.io.write(tmp_path / "frames.extxyz", [alone, *crystals, crystals[0]])
    small = ["model.family=nequip", "model.n_layers=1", "model.n_channels=4", "model.l_max=1", "training.compile=false"]
    found = prepare(read_config(tmp_path / "frames.extxyz", [*small, "data.n_train=5", "data.n_validation=1"]))
    everything = SimpleNamespace(train=np.arange(6), validation=np.arange(6), sha256="", save=found.split.save)
    for number, frames in enumerate((found.frames, Differences(found.frames, {}))):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_records(folder, found.config, found._replace(frames=frames, split=everything))
        left = ase.io.read(folder / "structure.xyz")
        np.testing.assert_allclose(left.positions, crystals[1].positions, atol=1e-7)
        assert left.pbc.all()
        assert left.cell.array == pytest.approx(crystals[1].cell.array)
