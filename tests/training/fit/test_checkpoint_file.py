"""Checkpoints on a disk that fills up."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from eqff.errors import ResourceError
from eqff.training.fit.checkpoint_file import CheckpointFile


def test_a_disk_that_fills_up_half_way_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = CheckpointFile(), tmp_path / "checkpoints" / "last.ckpt"
    files.save_checkpoint({"step": 1, "weights": torch.ones(3)}, path)
    write = Path.write_bytes

    def half(self: Path, content: Any) -> int:
        write(self, bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ResourceError, match=r"EQ6130.*last\.ckpt.*No space left"):
        files.save_checkpoint({"step": 2, "weights": torch.zeros(3)}, path)
    monkeypatch.undo()
    assert files.load_checkpoint(path)["step"] == 1
    assert list(path.parent.iterdir()) == [path]
    files.save_checkpoint({"step": 2, "weights": torch.zeros(3)}, path)
    assert torch.equal(files.load_checkpoint(path)["weights"], torch.zeros(3))
