"""Changes that a resumed run may make and must not make, and what is printed about them; without training."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eqff import config as config_io
from eqff.errors import ConfigError, RunError
from eqff.training.config import RunConfig
from eqff.training.folder.run_file import BEST, LAST
from eqff.training.resume import check_same_run, epochs_to_keep, prepare_folder, read_earlier

RECIPE: Mapping[str, Any] = {
    "data": {"train": "/home/frames.npz", "n_train": 10, "n_validation": 2},
    "model": {"family": "nequip", "l_max": 1},
    "init_from": "/home/start.eqff.pt",
    "training": {"epochs": 10},
}


def prepared(mapping: Mapping[str, Any], frames: str = "a" * 64, split: str = "b" * 64) -> Any:
    """A prepared run that decides what the user says: 10 frames train, 2 validate."""
    config = config_io.from_mapping(RunConfig, mapping, where="recipe")
    decided = {"data.n_train": 10, "data.n_validation": 2, "training.epochs": config.training.epochs}
    decided["training.loss.stress"] = config.training.loss.stress or 0.0
    plan = SimpleNamespace(split=SimpleNamespace(sha256=split), epochs=config.training.epochs, decided=lambda: decided)
    return SimpleNamespace(config=config, plan=plan, source=SimpleNamespace(sha256=frames))


def write(folder: Path, mapping: Mapping[str, Any]) -> None:
    run = prepared(mapping)
    (folder / "config.toml").write_text(config_io.to_toml(run.config))
    (folder / "plan.json").write_text(json.dumps({"decided": run.plan.decided()}))


def check(folder: Path, run: Any) -> None:
    check_same_run(folder, read_earlier(folder), run)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, RECIPE)
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
        check(folder, prepared(mapping))
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
        check(folder, prepared(mapping))
    assert shown in caught.value.message
    assert f"eqff train {folder / 'config.toml'} -o {folder} --resume" in caught.value.message


def test_a_baseline_may_move_and_be_no_other(folder: Path) -> None:
    write(folder, changed("data", baseline="/home/b.eqff.pt"))
    check(folder, prepared(changed("data", baseline="/scratch/b.eqff.pt")))
    for other in ("/home/other.eqff.pt", None):
        with pytest.raises(ConfigError, match=r"EQ1067.*data\.baseline: '/home/b\.eqff\.pt' -> "):
            check(folder, prepared(changed("data", baseline=other)))


def test_a_saved_split_is_compared_by_content(folder: Path) -> None:
    write(folder, changed("data", split="/home/split.json"))
    check(folder, prepared(changed("data", split="/scratch/moved.json")))
    with pytest.raises(ConfigError, match=r"EQ1067.*split \(sha256\)"):
        check(folder, prepared(changed("data", split="/home/split.json"), split="c" * 64))


def test_a_resumed_run_keeps_its_epochs_unless_the_user_asks_for_others(folder: Path) -> None:
    earlier = read_earlier(folder)
    assert epochs_to_keep(earlier, prepared(RECIPE).config) is None  # given: nothing was decided
    write(folder, changed("training", steps=1000))
    earlier = read_earlier(folder)
    assert epochs_to_keep(earlier, prepared(changed("training", steps=1000)).config) == 10
    assert epochs_to_keep(earlier, prepared(changed("training", steps=2000)).config) is None
    assert epochs_to_keep(None, prepared(changed("training", steps=1000)).config) is None
    check(folder, prepared(changed("training", steps=2000)))  # the epochs that come of it are compared


def test_processes_may_not_change_where_batches_are_of_each(folder: Path) -> None:
    recipe = changed("training", max_edges=100)
    write(folder, recipe)
    check(folder, prepared(recipe))
    with pytest.raises(ConfigError, match=r"training\.devices: 1 -> 2"):
        check(folder, prepared(changed("training", max_edges=100, devices=2)))


def test_other_frames_in_the_same_file_are_seen(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"frames \(sha256\): 'aaaaaaaaaaaa' -> 'cccccccccccc'"):
        check(folder, prepared(RECIPE, frames="c" * 64))
    with pytest.raises(ConfigError, match=r"split \(sha256\)"):
        check(folder, prepared(RECIPE, split="c" * 64))


def test_a_run_killed_between_its_first_files_is_compared_as_far_as_they_go(folder: Path) -> None:
    (folder / "model.json").unlink()
    check(folder, prepared(RECIPE))
    (folder / "config.toml").unlink()
    check(folder, prepared(changed("training", learning_rate=0.5)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a checkpoint", b"text"])
def test_a_damaged_checkpoint_is_named(content: bytes, folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / LAST).write_bytes(content)
    with pytest.raises(RunError, match=r"EQ5220.*last\.ckpt.*--init-from"):
        check(folder, prepared(RECIPE))


def test_fewer_epochs_than_were_done(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": {}, "progress": [7, 0, 0]}, folder / LAST)
    check(folder, prepared(changed("training", epochs=7)))
    with pytest.raises(RunError, match=r"EQ5221.*epochs=6.*7 epochs"):
        check(folder, prepared(changed("training", epochs=6)))


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
    from eqff.training.resume import FREE, PROCESSES, ROUNDING, SCHEDULE

    config = prepared(RECIPE).config
    names = {f"training.{field.name}" for field in dataclasses.fields(config.training)}
    names |= {f"data.{field.name}" for field in dataclasses.fields(config.data)} | {"preset"}
    assert {*FREE, *PROCESSES, *ROUNDING, *SCHEDULE} <= names
