"""Comment lines of XYZ trajectories that other programs write, as entries of an extended-XYZ header.

CP2K   i = 5, time = 2.500, E = -17.2177          the energy in Hartree; positions in Å
i-PI   # CELL(abcABC): a b c A B C ... positions{unit} cell{unit}    atomic units where none is named
"""

import re
from typing import Any

from eqff.units import length_factor

CP2K = re.compile(r"i\s*=\s*(\d+),\s*time\s*=\s*([-\d.Ee+]+)(?:,\s*E\s*=\s*([-\d.Ee+]+))?(?:\s*,.*)?")
IPI = re.compile(r"#?\s*CELL\(abcABC\):\s*((?:[-\d.Ee+]+\s+){5}[-\d.Ee+]+)(.*)")
NAMED = re.compile(r"(\w+)\{(\w+)\}")
ATOMIC = "atomic_unit"


def entries(comment: str) -> dict[str, Any] | None:
    """Entries of the header that such a comment stands for; None for any other comment.

    Raises: ValueError for a trajectory of i-PI that holds no positions, or in units that are unknown
    """
    found = CP2K.fullmatch(comment.strip())
    if found is not None:
        step, time, energy = found.groups()
        header: dict[str, Any] = {"step": int(step), "time_fs": float(time)}
        return header if energy is None else header | {"energy": float(energy), "energy_unit": "Hartree"}
    found = IPI.fullmatch(comment.strip())
    return None if found is None else _of_ipi(found[1], found[2])


def _of_ipi(cell: str, rest: str) -> dict[str, Any]:
    from ase.geometry import cellpar_to_cell

    named = dict(NAMED.findall(rest))
    unit, cell_unit = (named.get(name, ATOMIC) for name in ("positions", "cell"))
    other = [name for name in named if name not in ("positions", "cell")]
    if other:
        raise ValueError(f"i-PI wrote {', '.join(other)} there, no positions; give the file of the positions")
    parameters = [float(word) for word in cell.split()]
    units = ["bohr" if name == ATOMIC else name for name in (unit, cell_unit)]
    factor = length_factor(units[1]) / length_factor(units[0])
    vectors = cellpar_to_cell([factor * length for length in parameters[:3]] + parameters[3:])
    return {"Lattice": vectors.T, "length_unit": units[0]}
