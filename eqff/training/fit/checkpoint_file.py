"""How Lightning writes the checkpoints of a run."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from eqff.training.folder.run_file import run_file


class CheckpointFile(TorchCheckpointIO):
    """Checkpoints that are whole or absent.

    Lightning's own way goes over a temporary file elsewhere.  Where the folder is on another disk, that is copied over
    the last good checkpoint: a kill or a full disk then costs both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises: ResourceError EQ6130"""
        content = io.BytesIO()  # what a disk refuses must come as OSError
        torch.save(checkpoint, content)
        with run_file(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())
