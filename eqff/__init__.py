"""Equivariant neural-network force fields: train, export with TorchScript, run molecular dynamics.

    import eqff

    atoms.calc = eqff.EqffCalculator("ethanol-nequip")  # molecular dynamics and all else that ASE does
    potential = eqff.load("ethanol-nequip")             # a potential, to evaluate many structures at once
    eqff.predict, eqff.evaluate, eqff.relax             # what the commands of the same name do, in memory
    eqff.read_frames, eqff.train, eqff.export           # from labelled frames to a potential file
    eqff.compile, eqff.inspect                          # make a potential fast; look into a file, not executing it

Importing eqff imports nothing heavy; the names above are fetched when first used.
"""

import importlib as _importlib
import importlib.metadata as _metadata
import typing as _typing
from pathlib import Path as _Path

if _typing.TYPE_CHECKING:
    from eqff.api import compile, evaluate, export, predict, relax
    from eqff.artifact import inspect, load
    from eqff.data.reading.read import read_frames
    from eqff.engines.ase import EqffCalculator
    from eqff.errors import ConfigError, DataError, EqffError, GraphError, PotentialError, ResourceError, RunError
    from eqff.training.run import train

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
    "compile",
    "evaluate",
    "export",
    "inspect",
    "load",
    "predict",
    "read_frames",
    "relax",
    "train",
]


def _version() -> str:
    """That of the installed package, or of the checkout that is run without being installed."""
    try:
        return _metadata.version("eqff")
    except _metadata.PackageNotFoundError:
        project = _Path(__file__).parents[1] / "pyproject.toml"
        if not project.is_file():
            return "0+unknown"
        import tomllib

        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


__version__ = _version()

_HOMES = {
    "EqffCalculator": "eqff.engines.ase",
    "inspect": "eqff.artifact",
    "load": "eqff.artifact",
    "read_frames": "eqff.data.reading.read",
    "train": "eqff.training.run",
    **dict.fromkeys(("compile", "evaluate", "export", "predict", "relax"), "eqff.api"),
}


def __getattr__(name: str) -> _typing.Any:
    """Fetch a public name from the module it lives in (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'eqff' has no attribute {name!r}")
    return getattr(_importlib.import_module(_HOMES.get(name, "eqff.errors")), name)


def __dir__() -> list[str]:
    return list(__all__)
