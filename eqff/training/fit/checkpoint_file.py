"""Writes the checkpoints of a run for Lightning."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from eqff.training.folder.run_file import run_file


class CheckpointFile(TorchCheckpointIO):
    """Checkpoints that are whole or absent.

    Lightning itself writes a temporary file elsewhere.  If that is on another disk, it is copied over the last good
    checkpoint, and a kill or a full disk destroys both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises: ResourceError EQ6130"""
        content = io.BytesIO()  # so that a full disk raises OSError
        torch.save(checkpoint, content)
        with run_file(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())
