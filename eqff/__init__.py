"""Equivariant neural-network force fields: train, export with TorchScript, run molecular dynamics.

    from eqff import EqffCalculator
    atoms.calc = EqffCalculator("ethanol-nequip")

Importing eqff imports nothing heavy; the names below are fetched when first used.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqff.artifact import load
    from eqff.engines.ase import EqffCalculator
    from eqff.errors import ConfigError, DataError, EqffError, GraphError, PotentialError, ResourceError, RunError

__all__ = [
    "ConfigError",
    "DataError",
    "EqffCalculator",
    "EqffError",
    "GraphError",
    "PotentialError",
    "ResourceError",
    "RunError",
    "__version__",
    "load",
]

try:
    __version__ = version("eqff")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

_HOMES = {"load": "eqff.artifact", "EqffCalculator": "eqff.engines.ase"}


def __getattr__(name: str) -> Any:
    """Fetch a public name from the module it lives in (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'eqff' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "eqff.errors")), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
