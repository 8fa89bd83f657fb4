"""sevenn's own ASE calculator behind a pipe; runs in its environment."""

import importlib.metadata
from typing import Any

import torch
from sevenn.calculator import SevenNetCalculator
from worker import serve_calculator


def load(request: dict[str, Any]) -> tuple[SevenNetCalculator, dict[str, Any]]:
    """The model that sevenn knows by `name`, at `modality` if it has several."""
    modality = {"modal": request["modality"]} if request["modality"] else {}
    calculator = SevenNetCalculator(request["name"], device="cpu", **modality)
    versions = {"sevenn": importlib.metadata.version("sevenn"), "torch": torch.__version__}
    return calculator, {"threads": torch.get_num_threads(), "versions": versions}


serve_calculator(load)
