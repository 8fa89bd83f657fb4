"""mace-torch's own ASE calculator behind a pipe, with random weights; runs in its environment."""

import importlib.metadata
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from mace.calculators import MACECalculator
from mace.modules import ScaleShiftMACE, interaction_classes
from worker import serve_calculator


def load(request: dict[str, Any]) -> tuple[MACECalculator, dict[str, Any]]:
    """MACE 128x0e + 128x1o, two layers, correlation 3, eager float32."""
    from e3nn import o3  # after mace, which allows what its old e3nn loads

    numbers = sorted(atomic_numbers[symbol] for symbol in request["species"])
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    model = ScaleShiftMACE(
        r_max=request["r_max"],
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=request["avg_num_neighbors"],
        atomic_numbers=numbers,
        correlation=3,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    calculator = MACECalculator(models=[model], device="cpu", default_dtype="float32")
    versions = {"mace-torch": importlib.metadata.version("mace-torch"), "torch": torch.__version__}
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return calculator, {"threads": torch.get_num_threads(), "versions": versions, "n_parameters": n_parameters}


serve_calculator(load)
