"""nequip's own ASE calculator behind a pipe; runs in nequip's environment."""

from pathlib import Path
from typing import Any

import torch
from nequip.integrations.ase import NequIPCalculator
from worker import serve_calculator


def load(request: dict[str, Any]) -> tuple[NequIPCalculator, dict[str, Any]]:
    """mode "aotinductor" or "eager" of the model in `folder`."""
    folder = Path(request["folder"])
    if request["mode"] == "aotinductor":
        package = folder / f"threads{request['threads']}.nequip.pt2"
        calculator = NequIPCalculator.from_compiled_model(package, "cpu", chemical_species_to_atom_type_map=True)
    else:
        calculator = NequIPCalculator._from_saved_model(
            folder / "model.ckpt", "cpu", chemical_species_to_atom_type_map=True
        )
    import nequip

    versions = {"nequip": nequip.__version__, "torch": torch.__version__}
    return calculator, {"threads": torch.get_num_threads(), "versions": versions}


serve_calculator(load)
