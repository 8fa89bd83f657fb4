"""Potential files `<name>.eqff.pt`: find, inspect, verify and load them; they need torch alone.

archive.py   the zip archive: members, hashes, whole-file digest, atomic writing
header.py    header.json and what must be in it
agreement.py header.json against the other members
vectors.py   test vectors: inputs with the results that the program must give
lookup.py    names and paths
program.py   loading the TorchScript program and proving it; the only part that executes the file
compiled.py  programs compiled for this machine, in the user's cache
potential.py the loaded potential
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqff.artifact.archive import read
from eqff.artifact.lookup import available, default_structure, find
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.artifact.potential import Potential

__all__ = ["available", "default_structure", "find", "inspect", "load", "read"]


def inspect(path: str | Path) -> dict[str, Any]:
    """Header of a potential file, after checking every digest; the file is not executed and torch is not imported.

        eqff.inspect("ethanol-nequip")["training_data"]

    Args:    path: a file, or the name of a potential (see `eqff.artifact.find`)
    Returns: the header: species, r_max, units, training data, metrics, level of theory, licence, versions, ...
    Raises:  PotentialError for a file that is missing, foreign or damaged
    """
    return read(find(path)).header


def load(
    name_or_path: str | Path, device: str = "cpu", dtype: str = "auto", accelerate: str = "ready", exact: bool = False
) -> "Potential":
    """Verify and load a potential.  A potential file is a program: load only files from people you trust.

        potential = eqff.load("ethanol-nequip")
        (prediction,) = potential.predict([atoms])
        print(prediction.energy, prediction.forces)

    Args:    name_or_path: a file, or the name of a potential (see `find`);
             device: as torch names it, e.g. "cpu" or "cuda:0"; dtype: of the weights, "float32", "float64" or "auto"
             for the stored one; accelerate: "ready" runs the program that `eqff compile` has made of this potential on
             this machine, if there is one; "off" runs the program in the file;
             exact: of compiled programs, use only the one without radial splines
    Returns: Potential
    Raises:  PotentialError for a file that is missing, foreign, damaged or fails its test vectors;
             ResourceError EQ6102 for a device that does not exist; ConfigError EQ1101, EQ1102, EQ1103 for other options
    """
    from eqff.artifact import compiled, program  # torch is imported here, so that finding and inspecting stay quick

    if accelerate not in ("off", "ready"):
        raise ConfigError("EQ1103", f"accelerate={accelerate!r} is no mode of loading; choose off or ready")
    contents = read(find(name_or_path))
    potential = program.load(contents, device, dtype)
    return potential if accelerate == "off" else compiled.accelerated(potential, exact, contents) or potential
