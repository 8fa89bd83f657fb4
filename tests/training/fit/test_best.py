"""The best checkpoint and its export, with a trainer that does nothing but count."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eqff.training.fit import best
from eqff.training.fit.best import BestCheckpoint, BestPotential
from eqff.training.folder.trained import measured


class Trainer:
    """Saves what the callback knows."""

    global_rank, world_size = 0, 1

    def __init__(self, callback: BestCheckpoint) -> None:
        self.callback, self.saved = callback, 0

    def save_checkpoint(self, path: Path) -> None:
        self.saved += 1
        path.parent.mkdir(exist_ok=True)
        callbacks = {"BestCheckpoint": self.callback.state_dict()}
        torch.save({"state_dict": {}, "global_step": self.saved, "callbacks": callbacks}, path)


def validated(folder: Path, errors: list[float]) -> Trainer:
    metrics: Any = SimpleNamespace(rows=[])
    callback = BestCheckpoint(folder, metrics)
    trainer = Trainer(callback)
    callback.on_train_start(trainer, None)
    for epoch, error in enumerate(errors, start=1):
        metrics.rows.append({"epoch": float(epoch), "forces_mae_meV_A": error})
        callback.on_validation_end(trainer, None)
    return trainer


def test_the_best_is_kept_with_what_was_measured(tmp_path: Path) -> None:
    trainer = validated(tmp_path, [5.0, float("nan"), 4.0, 4.0, 6.0])
    assert trainer.saved == 2
    state = torch.load(tmp_path / best.BEST, weights_only=True)
    assert measured(state) == {"epoch": 3.0, "forces_mae_meV_A": 4.0}


def test_a_resumed_run_compares_with_the_file_itself(tmp_path: Path) -> None:
    validated(tmp_path, [4.0])
    assert validated(tmp_path, [5.0]).saved == 0
    assert validated(tmp_path, [3.0]).saved == 1
    (tmp_path / best.BEST).write_bytes(b"damaged")
    assert validated(tmp_path, [5.0]).saved == 1


class Child:
    """An export that takes as long as the test wants."""

    started = 0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        Child.started += 1
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self) -> tuple[None, str]:
        return None, "reason"


def test_exports_follow_new_bests_and_take_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(best.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(Child, "started", 0)
    kept: Any = SimpleNamespace(row={})
    trainer, export = SimpleNamespace(global_rank=0), BestPotential(tmp_path, kept, minutes=1.0)
    export.on_train_start(trainer, None)
    first = None
    for second in range(2000):  # a new best in every epoch of a second
        clock[0] = float(second)
        if export.child is not None and second - export.began >= 10.0:
            export.child.returncode = 1
        export.on_train_epoch_start(trainer, None)
        kept.row = {"epoch": float(second)}
        first = second if first is None and Child.started else first
    assert first == 60
    assert 1 < Child.started <= 1 + best.SHARE * 2000 / 10.0
    assert "best.eqff.pt could not be written: reason" in caplog.text


def test_a_resumed_run_does_not_export_again_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best, "inspect", lambda path: {"metrics": {"validation": {"epoch": 7.0}}})
    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(Child, "started", 0)
    kept: Any = SimpleNamespace(row={"epoch": 7.0})
    trainer, export = SimpleNamespace(global_rank=0), BestPotential(tmp_path, kept, minutes=0.0)
    export.on_train_start(trainer, None)
    export.on_train_epoch_start(trainer, None)
    assert Child.started == 0
    kept.row = {"epoch": 8.0}
    export.on_train_epoch_start(trainer, None)
    assert Child.started == 1
