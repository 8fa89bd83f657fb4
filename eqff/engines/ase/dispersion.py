"""DFT-D3 dispersion as an addition to a potential: d3:PBE, by the library dftd3 (simple-dftd3).

Two-body terms only, as DFT programs have by default; no three-body (Axilrod-Teller-Muto) term.  Damping is that of
Becke and Johnson; d3zero:PBE has zero damping.

Source: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010); J. Comput. Chem. 32, 1456 (2011)
"""

import importlib
from importlib import metadata
from typing import Any

from ase import Atoms

from eqff.errors import ConfigError, PotentialError, ResourceError

DAMPINGS = {"d3": "d3bj", "d3bj": "d3bj", "d3zero": "d3zero"}
HEAVIEST = 103  # atomic number; dftd3 gives heavier elements no dispersion, without a word
HYDROGEN_MOLECULE = Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])


def is_dispersion(name: str) -> bool:
    """Whether a name is one of these, e.g. d3:PBE."""
    return name.partition(":")[0].lower() in DAMPINGS


def dispersion(name: str) -> tuple[Any, str]:
    """(ASE calculator, what it is, e.g. "D3(BJ) for PBE (dftd3 1.3.1)").

    Args:   name: d3:FUNCTIONAL or d3zero:FUNCTIONAL
    Raises: ConfigError EQ1235 for a name that is none, EQ1236 for a functional without parameters; ResourceError EQ6915
            without dftd3
    """
    kind, _, functional = name.partition(":")
    if kind.lower() not in DAMPINGS or not functional:
        raise ConfigError("EQ1235", f"add={name!r}: is no dispersion; give e.g. d3:PBE or d3zero:PBE")
    try:
        library: Any = importlib.import_module("dftd3.ase")
    except ImportError as error:
        raise ResourceError(
            "EQ6915", f"add={name!r}: dftd3 cannot be imported ({error}); pip install 'eqff[dispersion]'"
        ) from error
    damping = DAMPINGS[kind.lower()]

    class Dispersion(library.DFTD3):  # type: ignore[misc, name-defined]
        """DFTD3 that refuses elements without parameters."""

        def calculate(self, atoms: Any = None, *arguments: Any, **options: Any) -> None:
            heaviest = 0 if atoms is None else atoms.numbers.max(initial=0)
            if heaviest > HEAVIEST:
                raise PotentialError(
                    "EQ4926", f"{name}: D3 ends with element {HEAVIEST}, not {heaviest}; leave the dispersion out"
                )
            super().calculate(atoms, *arguments, **options)

    calculator = Dispersion(damping=damping, params_tweaks={"method": functional, "atm": False}, cache_api=True)
    try:
        calculator.get_potential_energy(HYDROGEN_MOLECULE.copy())
    except Exception as error:  # the library has several kinds of its own
        raise ConfigError(
            "EQ1236",
            f"add={name!r}: dftd3 has no parameters for this functional and damping ({error}); give that of the data "
            "that the potential was trained on, e.g. d3:PBE",
        ) from error
    shown = {"d3bj": "D3(BJ)", "d3zero": "D3(0)"}[damping]
    return calculator, f"{shown} for {functional} (dftd3 {metadata.version('dftd3')})"
