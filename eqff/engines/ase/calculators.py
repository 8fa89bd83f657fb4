"""ASE calculators by name: a potential of eqff, a method of tblite, ASE's EMT, or a function of the user.

ethanol-nequip, my.eqff.pt     a potential
tblite:GFN2-xTB                extended tight binding, from the extra `labels`
d3:PBE, d3zero:PBE             DFT-D3 dispersion, from the extra `dispersion`
emt                            ASE's effective-medium theory (Cu, Ag, Au, Ni, Pd, Pt, H, C, N, O)
my_module:make                 make() returns a calculator
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from eqff.digest import file_sha256
from eqff.engines.ase.dispersion import dispersion, is_dispersion
from eqff.errors import ConfigError, ResourceError

TBLITE = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")
ACCURACY = 0.1  # of tblite: forces are then good to 1e-4 eV/Å


@dataclass(frozen=True)
class Maker:
    """Makes a new calculator whenever it is called."""

    name: str
    level_of_theory: str
    make: Callable[[], Any]
    file: Path | None = None  # of a potential
    sha256: str | None = None  # of that file, or of the file with the function

    def __call__(self) -> Any:
        return self.make()


def calculator_maker(name: str) -> Maker:
    """The calculators of a name.

    Raises: ConfigError EQ1926 for a function that cannot be found, EQ1927 for what is no function,
            EQ1959 for an unknown method; ResourceError EQ6911
            without tblite; PotentialError for a file that is no potential
    """
    kind, _, rest = name.partition(":")
    if kind == "tblite":
        return _tblite(name, rest)
    if is_dispersion(name):
        level = dispersion(name)[1]
        return Maker(name, level, lambda: dispersion(name)[0])
    if name.lower() == "emt":
        from ase.calculators.emt import EMT

        return Maker("emt", "EMT (effective-medium theory of ASE)", EMT)
    if rest and "/" not in name and "\\" not in name:
        return _function(name, kind, rest)
    from eqff.engines.ase import EqffCalculator

    loaded = EqffCalculator(name)  # shared by all calls, because it has no state that changes results
    level = loaded.potential.header.get("level_of_theory") or "not stated"
    file = Path(loaded.parameters["potential"])
    shown = Path(name).name  # the level of theory is stored in files that others read
    return Maker(name, f"potential {shown} (trained on {level})", lambda: loaded, file, file_sha256(file))


def _tblite(name: str, method: str) -> Maker:
    if method not in TBLITE:
        raise ConfigError("EQ1959", f"calculator={name!r}: tblite has no such method; choose from {', '.join(TBLITE)}")
    try:
        tblite = importlib.import_module("tblite.ase")
    except ImportError as error:
        raise ResourceError(
            "EQ6911",
            f"calculator={name!r}: tblite cannot be imported ({error}); install it with `pip install eqff[labels]`",
        ) from error
    level = f"{method} (tblite {metadata.version('tblite')}, accuracy {ACCURACY})"
    return Maker(name, level, lambda: tblite.TBLite(method=method, accuracy=ACCURACY, verbosity=0))


def _function(name: str, module: str, attribute: str) -> Maker:
    try:
        imported = importlib.import_module(module)
        make = getattr(imported, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "EQ1926", f"calculator={name!r}: {error}; give module:function, importable from here"
        ) from error
    if not callable(make):
        raise ConfigError("EQ1927", f"calculator={name!r}: {attribute} cannot be called; give the name of a function")
    source = getattr(imported, "__file__", None)
    return Maker(name, name, make, sha256=None if source is None else file_sha256(source))
