"""eqff's ASE calculator behind a pipe, as any peer."""

import inspect
from typing import Any

import torch
from worker import serve_calculator

import eqff


def load(request: dict[str, Any]) -> tuple[eqff.EqffCalculator, dict[str, Any]]:
    """The potential file at `path` with the calculator's `options`."""
    options = dict(request["options"])
    known = inspect.signature(eqff.EqffCalculator.__init__).parameters
    if "accelerate" not in known and options.get("accelerate") == "off":
        del options["accelerate"]  # an eqff that has nothing to switch off
    calculator = eqff.EqffCalculator(request["path"], **options)
    n_parameters = calculator.potential.header["n_parameters"]
    versions = {"eqff": eqff.__version__, "torch": torch.__version__}
    return calculator, {"threads": torch.get_num_threads(), "versions": versions, "n_parameters": n_parameters}


serve_calculator(load)
