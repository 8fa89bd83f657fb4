"""Potential files `<name>.eqff.pt`: find, inspect, verify and load them; they need torch alone.

archive.py   the zip archive: members, hashes, whole-file digest, atomic writing
header.py    header.json and what must be in it
vectors.py   test vectors: inputs with the results that the program must give
compiled.py  programs compiled for this machine, in the user's cache
program.py   loading the TorchScript program and proving it; the only part that executes the file
lookup.py    names and paths
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqff.artifact.archive import read
from eqff.artifact.lookup import available, default_structure, find
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.potential import Potential

__all__ = ["available", "default_structure", "find", "inspect", "load", "read"]


def inspect(path: str | Path) -> dict[str, Any]:
    """Header of a potential file after checking every digest; the file is never executed, torch not imported.

    Raises: PotentialError for a file that is missing, foreign or damaged
    """
    return read(find(path)).header


def load(
    name_or_path: str | Path, device: str = "cpu", dtype: str = "auto", accelerate: str = "off", exact: bool = False
) -> "Potential":
    """Verify and load a potential.  A potential file is a program: load only files from people you trust.

    Args:    name_or_path: a file, or the name of a potential (see `find`); device: as torch names it;
             dtype: of the weights, "float32", "float64" or "auto" for the stored one;
             accelerate: "ready" takes the program that `eqff compile` made on this machine, if it did; "off" does not;
             exact: of two such programs, the one without radial splines
    Returns: Potential
    Raises:  PotentialError for a file that is missing, foreign, damaged or fails its test vectors;
             ResourceError for a device that is not there; ConfigError for an unknown dtype
    """
    from eqff.artifact import compiled, program  # torch is imported here, so that finding and inspecting stay quick

    if accelerate not in ("off", "ready"):
        raise ConfigError("EQ1103", f"accelerate={accelerate!r}: expected off or ready")
    potential = program.load(find(name_or_path), device, dtype)
    return potential if accelerate == "off" else compiled.accelerated(potential, exact) or potential
