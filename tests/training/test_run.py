"""eqff train, end to end on the shipped sample: files, learning, resume to the bit, errors that help."""

import csv
import errno
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import ase.io
import lightning
import numpy as np
import pytest
import torch
from toys import SAMPLE

from eqff.data.reading.read import read_frames
from eqff.data.splits import load_split
from eqff.data.store.store import write_store
from eqff.errors import ConfigError, ResourceError, RunError
from eqff.training.config import RunConfig
from eqff.training.fit import callbacks
from eqff.training.fit.module import TrainingModule
from eqff.training.fit.stopped import Stopped
from eqff.training.folder.run_file import BEST, LAST
from eqff.training.folder.trained import load_run
from eqff.training.prepare.preparation import Prepared, prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

RECIPE = """
[data]
train = "{sample}"
energy_unit = "kcal/mol"
n_train = 16
n_validation = 4

[model]
family = "nequip"
r_max = 4.0
l_max = 1
n_layers = 2
n_channels = 4
radial_hidden = [8]

[training]
epochs = 6
batch_size = 4
warmup_steps = 2
checkpoint_every = 3
export_best = false
report = false
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(sample=SAMPLE))
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder(recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = train(recipe, tmp_path / "run").folder
    assert "16 frames are few" in caplog.text
    written = {path.name for path in folder.iterdir()}
    expected = {
        "config.toml",
        "plan.json",
        "model.json",
        "split.json",
        "statistics.json",
        "metrics.csv",
        "learning_curve.png",
    }
    assert expected | {"checkpoints", "structure.xyz"} <= written
    table = rows(folder)
    assert [int(float(row["epoch"])) for row in table] == [1, 2, 3, 4, 5, 6]
    assert float(table[-1]["validation_loss"]) < float(table[0]["validation_loss"])
    run = load_run(folder)
    assert run.family == "nequip"
    assert run.config["species"] == ["H", "C", "O"]
    best = min(table, key=lambda row: float(row["forces_mae_meV_A"]))
    assert run.validation["forces_mae_meV_A"] == pytest.approx(float(best["forces_mae_meV_A"]))
    statistics = json.loads((folder / "statistics.json").read_text())
    assert run.config["energy_scale"] == pytest.approx(statistics["force_rms"])
    start = ase.io.read(folder / "structure.xyz")
    frames, split = read_frames(SAMPLE, energy_unit="kcal/mol"), load_split(folder / "split.json")
    calm = min((frames[i] for i in split.train), key=lambda frame: np.abs(frame.forces).max())
    np.testing.assert_allclose(start.positions, calm.positions, atol=1e-7)
    assert start.calc is None


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_kernels_are_chosen_and_never_missed(
    kernels: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(model: torch.nn.Module) -> None:
        raise ResourceError("EQ6111", "g++ cannot compile")

    monkeypatch.setattr("eqff.training.prepare.model.fuse", fails)
    folder = train(recipe, tmp_path / "run", overrides=[f"training.kernels={kernels}", "training.epochs=1"]).folder
    assert len(rows(folder)) == 1
    assert ("convolutions run on ATen" in caplog.text) == (kernels == "auto")


def test_batches_by_edges(recipe: Path, tmp_path: Path) -> None:
    overrides = ["training.max_edges=200", "training.epochs=2", "training.validate_every=2"]
    (row,) = rows(train(recipe, tmp_path / "run", overrides=overrides).folder)
    assert 2 * 16 / 4 < int(row["step"]) <= 2 * 16  # two frames of about 70 edges, or one
    with pytest.raises(ConfigError, match="EQ1076"):
        train(recipe, tmp_path / "other", overrides=["training.max_edges=200", "training.compile=true"])


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    optimizer: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"training.optimizer={optimizer}"]
    whole = train(recipe, tmp_path / "whole", overrides=overrides).folder

    def stop_after_epoch_4(self: callbacks.MetricsFile, trainer: Any, module: Any) -> None:
        original(self, trainer, module)
        if trainer.current_epoch == 3:
            raise InterruptedError("stopped by the test")

    original = callbacks.MetricsFile.on_validation_end
    monkeypatch.setattr(callbacks.MetricsFile, "on_validation_end", stop_after_epoch_4)
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "parts", overrides=overrides)
    monkeypatch.undo()
    train(recipe, tmp_path / "parts", resume=True, overrides=overrides)  # from the checkpoint of epoch 3
    assert torch.load(tmp_path / "parts" / LAST, weights_only=True)["global_step"] == 24
    same_run(whole, tmp_path / "parts")


def same_run(one: Path, other: Path) -> None:
    first, second = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (one, other))
    assert first["global_step"] == second["global_step"]
    for name, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][name]), name
    for a, b in zip(first["average"]["average"], second["average"]["average"], strict=True):
        assert torch.equal(a, b)
    columns = ("epoch", "step", "train_loss", "forces_mae_meV_A", "energy_mae_meV")
    first_table, second_table = ([[float(row[c]) for c in columns] for row in rows(f)] for f in (one, other))
    assert first_table == second_table


@pytest.mark.parametrize("batches", ["training.batch_size=4", "training.max_edges=200"])
@pytest.mark.parametrize("stop_at", [6, 8, 9, 17])  # within an epoch, at its end, at its beginning, in the fifth
def test_a_run_stopped_by_signals_goes_on_within_its_epoch_bit_for_bit(
    stop_at: int, batches: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [batches, "training.checkpoint_every=100", "training.validate_every=2"]
    whole = train(recipe, tmp_path / "whole", overrides=overrides).folder
    original = TrainingModule.optimizer_step

    def kill(self: TrainingModule, *arguments: Any, **more: Any) -> None:
        original(self, *arguments, **more)
        if self.global_step == stop_at - 1:  # counted a moment later
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainingModule, "optimizer_step", kill)
    with pytest.raises(Stopped, match="SIGTERM"):
        train(recipe, tmp_path / "parts", overrides=overrides)
    assert torch.load(tmp_path / "parts" / LAST, weights_only=True)["global_step"] == stop_at
    monkeypatch.undo()
    train(recipe, tmp_path / "parts", resume=True, overrides=overrides)
    same_run(whole, tmp_path / "parts")


@pytest.mark.parametrize("hook", ["on_validation_epoch_start", "on_load_checkpoint"])
def test_a_signal_at_other_moments_ends_a_run_no_other_way(
    hook: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning has an end of its own for SIGTERM, without a checkpoint and with exit code 0."""
    overrides = ["training.checkpoint_every=100", "training.epochs=2"]
    with pytest.raises(Stopped, match="time limit"):
        train(recipe, tmp_path / "parts", overrides=overrides, time_limit=1e-3)  # behind its first step
    original = getattr(TrainingModule, hook)

    def kill(self: TrainingModule, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)

    monkeypatch.setattr(TrainingModule, hook, kill)
    with pytest.raises(Stopped, match="SIGTERM"):
        train(recipe, tmp_path / "parts", resume=True, overrides=overrides)
    step = torch.load(tmp_path / "parts" / LAST, weights_only=True)["global_step"]
    assert step == (2 if hook == "on_load_checkpoint" else 4)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.undo()
    train(recipe, tmp_path / "parts", resume=True, overrides=overrides)
    same_run(train(recipe, tmp_path / "whole", overrides=overrides).folder, tmp_path / "parts")


def test_a_time_limit_stops_with_a_checkpoint(recipe: Path, tmp_path: Path) -> None:
    for resume in (False, True):
        with pytest.raises(Stopped, match="time limit"):
            train(recipe, tmp_path / "parts", resume=resume, time_limit=1e-3)
    whole = train(recipe, tmp_path / "whole").folder
    train(recipe, tmp_path / "parts", resume=True)
    same_run(whole, tmp_path / "parts")


def test_a_run_that_stops_before_its_first_validation_leaves_a_potential(recipe: Path, tmp_path: Path) -> None:
    import eqff

    overrides = ["training.export_best=true"]
    with pytest.raises(Stopped, match="time limit"):
        train(recipe, tmp_path / "parts", overrides=overrides, time_limit=1e-3)
    (row,) = rows(tmp_path / "parts")
    assert 0.0 < float(row["epoch"]) < 1.0
    header = eqff.artifact.inspect(tmp_path / "parts" / "best.eqff.pt")
    assert header["metrics"]["validation"]["epoch"] == float(row["epoch"])
    train(recipe, tmp_path / "parts", resume=True, overrides=overrides)
    same_run(train(recipe, tmp_path / "whole", overrides=overrides).folder, tmp_path / "parts")


def test_checkpoints_by_minutes_are_written_within_an_epoch(recipe: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    overrides = ["training.checkpoint_minutes=1e-9", "training.checkpoint_every=100", "training.epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", lambda trainer, *more: seen.append(trainer.global_step))
        train(recipe, tmp_path / "run", overrides=overrides)
    assert [step for step in seen if step < 4] == [0, 1, 2, 3]


def test_the_best_model_lies_ready_as_a_potential(recipe: Path, tmp_path: Path) -> None:
    import eqff

    folder = train(recipe, tmp_path / "run", overrides=["training.export_best=true", "training.epochs=2"]).folder
    header = eqff.artifact.inspect(folder / "best.eqff.pt")
    best = min(rows(folder), key=lambda row: float(row["forces_mae_meV_A"]))
    measured = header["metrics"]["validation"]["forces_mae_meV_A"]
    assert measured == pytest.approx(float(best["forces_mae_meV_A"]))


def test_metrics_are_those_of_an_independent_evaluation(recipe: Path, tmp_path: Path) -> None:
    from eqff.data.splits import load_split
    from eqff.elements import species_index
    from eqff.neighbors import build_structure
    from eqff.potential import GradientEvaluator, energy_forces_stress

    folder = train(recipe, tmp_path / "run").folder
    run = load_run(folder)
    frames = read_frames(SAMPLE, energy_unit="kcal/mol")
    force_errors, energy_errors = [], []
    for index in load_split(folder / "split.json").validation:
        frame = frames[index]
        species = species_index(frame.atomic_numbers, run.config["species"])
        structure = build_structure(frame.positions, species, frame.cell, frame.pbc, run.config["r_max"])
        found = energy_forces_stress(GradientEvaluator(run.model), structure)
        force_errors.append((found.forces - torch.tensor(frame.forces)).abs().mean())
        energy_errors.append(abs(float(found.energy) - frame.energy))
    assert run.validation["forces_mae_meV_A"] == pytest.approx(1000 * float(torch.stack(force_errors).mean()), rel=1e-4)
    assert run.validation["energy_mae_meV"] == pytest.approx(1000 * sum(energy_errors) / len(energy_errors), rel=1e-3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lerning_rate=0.1", "learning_rate"),
        ("model.l_mx=1", "l_max"),
        ('model.family="nequipp"', r"choose from .*nequip"),
        ("model.n_layers=0", "n_layers"),
        ('training.accelerator="gpuu"', "cuda"),
        ("training.warmup_steps=-1", "warmup_steps"),
        ("training.epochs=0", "epochs"),
        ("data.n_train=100", "n_train"),
        ('data.train="missing.npz"', "missing.npz"),
        ("training.loss.final_energy_per_atom=0.0", "final_energy_per_atom"),
    ],
)
def test_config_errors_name_key_and_remedy(recipe: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(recipe, tmp_path / "run", overrides=[override])
    assert not (tmp_path / "run").exists()  # so that the corrected run can start


def test_a_finished_run_can_be_resumed_whatever_the_checkpoint_interval(recipe: Path, tmp_path: Path) -> None:
    folder = train(recipe, tmp_path / "run", overrides=["training.epochs=2", "training.checkpoint_every=100"]).folder
    before = rows(folder)
    train(recipe, folder, resume=True, overrides=["training.epochs=2", "training.checkpoint_every=100"])
    assert [float(row["step"]) for row in rows(folder)] == [float(row["step"]) for row in before] == [4.0, 8.0]
    (folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ConfigError, match="EQ1073"):
        train(recipe, folder, resume=True, overrides=["training.epochs=2", "training.checkpoint_every=100"])


def test_no_run_is_overwritten_and_no_changed_config_resumed(recipe: Path, tmp_path: Path) -> None:
    folder = train(recipe, tmp_path / "run", overrides=["training.epochs=2"]).folder
    with pytest.raises(ConfigError, match="not empty"):
        train(recipe, folder)
    with pytest.raises(ConfigError, match=r"training.batch_size: 4 -> 8"):
        train(recipe, folder, resume=True, overrides=["training.epochs=2", "training.batch_size=8"])
    with pytest.raises(RunError, match=r"EQ5221.*epochs=1"):
        train(recipe, folder, resume=True, overrides=["training.epochs=1"])
    with pytest.raises(ConfigError, match="nothing to resume"):
        train(recipe, tmp_path / "elsewhere", resume=True)


def test_a_run_that_came_and_went_while_this_one_read_its_data_stays(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(config: RunConfig, folder: Path, epochs: int | None) -> Prepared:
        monkeypatch.undo()
        train(recipe, folder, overrides=["training.epochs=1"])
        return prepare(config, folder, epochs)

    monkeypatch.setattr("eqff.training.run.prepare", slow)
    with pytest.raises(ConfigError, match="EQ1068"):
        train(recipe, tmp_path / "run")
    assert len(rows(tmp_path / "run")) == 1


def test_a_finished_run_goes_on_with_more_epochs_as_if_it_had_had_them_at_once(recipe: Path, tmp_path: Path) -> None:
    """With a constant learning rate, where the schedule does not depend on the number of epochs."""
    constant = ["training.warmup_steps=0", "training.final_learning_rate=0.01"]
    whole = train(recipe, tmp_path / "whole", overrides=[*constant, "training.epochs=3"]).folder
    folder = train(recipe, tmp_path / "parts", overrides=[*constant, "training.epochs=2"]).folder
    (tmp_path / "elsewhere").mkdir()
    folder = folder.rename(tmp_path / "elsewhere" / "parts")  # a run folder may move
    train(recipe, folder, resume=True, overrides=[*constant, "training.epochs=3"])
    same_run(whole, folder)
    best = [torch.load(run / BEST, weights_only=True)["global_step"] for run in (whole, folder)]
    assert best[0] == best[1]


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(callbacks.MetricsFile, "on_train_start", killed)  # before the checkpoint of step 0
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "parts", overrides=["training.epochs=1"])
    monkeypatch.undo()
    monkeypatch.setattr(TrainingModule, "optimizer_step", killed)  # behind it
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "parts", resume=True, overrides=["training.epochs=1"])
    monkeypatch.undo()
    assert torch.load(tmp_path / "parts" / LAST, weights_only=True)["global_step"] == 0
    train(recipe, tmp_path / "parts", resume=True, overrides=["training.epochs=1"])
    same_run(train(recipe, tmp_path / "whole", overrides=["training.epochs=1"]).folder, tmp_path / "parts")


@pytest.mark.parametrize("full_at", ["last.ckpt", "metrics.csv"])
def test_a_full_disk_stops_the_run_and_leaves_one_that_goes_on_bit_for_bit(
    full_at: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["training.epochs=2", "training.checkpoint_every=1"]
    replace, seen = os.replace, []

    def refuse(source: Any, target: Any) -> None:
        seen.append(Path(target).name)
        if seen.count(full_at) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("eqff.files.os.replace", refuse)
    with pytest.raises(ResourceError, match=rf"EQ6130.*{full_at}.*No space left"):
        train(recipe, tmp_path / "parts", overrides=overrides)
    monkeypatch.undo()
    torch.load(tmp_path / "parts" / LAST, weights_only=True)
    assert not list((tmp_path / "parts").rglob(".*.part*"))
    train(recipe, tmp_path / "parts", resume=True, overrides=overrides)
    same_run(train(recipe, tmp_path / "whole", overrides=overrides).folder, tmp_path / "parts")


def test_losses_that_stay_not_finite_stop_the_run(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"EQ5201.*epoch.*frames.*learning_rate"):
        train(recipe, tmp_path / "run", overrides=["training.learning_rate=1e12", "training.warmup_steps=0"])


def test_a_single_step_that_is_not_finite_is_left_out_and_named(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = TrainingModule.training_step
    weights: list[torch.Tensor] = []

    def spoiled(self: TrainingModule, batch: Any, batch_index: int) -> torch.Tensor:
        if self.global_step in (5, 6):
            weights.append(torch.cat([p.detach().reshape(-1) for p in self.model.parameters()]).clone())
        return original(self, batch, batch_index) * (torch.nan if self.global_step == 5 else 1.0)

    monkeypatch.setattr(TrainingModule, "training_step", spoiled)
    folder = train(recipe, tmp_path / "run", overrides=["training.epochs=3"]).folder
    assert torch.equal(*weights)
    assert "step skipped" in caplog.text
    assert "epoch 2, frames" in caplog.text
    assert all(math.isfinite(float(row["forces_mae_meV_A"])) for row in rows(folder))


def test_ctrl_c_comes_out_as_such(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(self: callbacks.MetricsFile, trainer: Any, module: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.MetricsFile, "on_validation_end", press)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")


def test_compositions_that_fix_the_reference_energies_are_recorded(recipe: Path, tmp_path: Path) -> None:
    folder = train(recipe, tmp_path / "run", overrides=["training.epochs=1"]).folder
    data = load_run(folder).data
    assert (data["compositions"], data["reference_rank"]) == (["C2H6O"], 1)


def test_a_store_trains_as_the_file_it_was_made_from(recipe: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "frames.h5", read_frames(SAMPLE, energy_unit="kcal/mol"))
    whole = train(recipe, tmp_path / "npz").folder
    lines = RECIPE.format(sample=tmp_path / "frames.h5").splitlines()
    recipe.write_text("\n".join(line for line in lines if not line.startswith("energy_unit")))
    same_run(whole, train(recipe, tmp_path / "store").folder)


def test_frozen_weights_stay_and_the_run_exports(recipe: Path, tmp_path: Path) -> None:
    frozen = ["training.freeze=['embedding', 'layers.0']", "training.epochs=2"]
    folder = train(recipe, tmp_path / "run", overrides=frozen).folder
    prepared = prepare(read_config(recipe))
    run = load_run(folder)
    for name, parameter in run.model.named_parameters():
        if parameter.requires_grad and parameter.numel() > 0:
            kept = torch.equal(parameter, prepared.model.get_parameter(name))
            assert kept == name.startswith(("embedding", "layers.0")), name
    with pytest.raises(ConfigError, match=r"EQ1402.*embedding"):
        train(recipe, tmp_path / "other", overrides=["training.freeze=['nothing']"])
