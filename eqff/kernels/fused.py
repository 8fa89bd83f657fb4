"""The convolution as one compiled loop, through the operators `eqff::convolve*` (operators.cpp)."""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from eqff.kernels import build, source
from eqff.kernels.source import Layout

_lock = threading.Lock()
_loaded: set[str] = set()


def load(layouts: Iterable[Layout]) -> dict[str, Path]:
    """Kernels of these convolutions, by name for `torch.ops.eqff.convolve`; compiled at first use.

    Returns: name -> shared library, in the order of the layouts (equal layouts share one)
    Raises:  ResourceError without a compiler
    """
    libraries = {}
    for layout in layouts:
        name = source.name(layout)
        libraries[name] = build.kernel_library(name, source.source(layout))
    load_operators()
    load_files(libraries)
    return libraries


def load_operators() -> None:
    """Register the operators of this package with torch; compiled if this is the first time.

    Raises: ResourceError without a compiler
    """
    build.operators_library()
    load_files({})


def load_files(libraries: Mapping[str, Path | None]) -> bool:
    """Load kernels that were compiled before; False if a kernel or the operators are missing."""
    operators = build.operators_library(find_only=True)
    if operators is None or any(path is None for path in libraries.values()):
        return False
    with _lock:
        if not _loaded:
            torch.ops.load_library(str(operators))
            _loaded.add("operators")
        for name, path in libraries.items():
            if name not in _loaded:
                torch.ops.eqff.load_kernel(name, str(path))
                _loaded.add(name)
    return True
