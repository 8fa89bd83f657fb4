"""Chemical symbols, atomic numbers and the species index a potential uses."""

from collections.abc import Sequence

import numpy as np

from eqff.errors import ConfigError, GraphError

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt "
    "Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc "
    "Lv Ts Og"
).split()
ATOMIC_NUMBERS = {symbol: z for z, symbol in enumerate(SYMBOLS)}


def atomic_number(symbol: str) -> int:
    """Z of a chemical symbol.  Raises: ConfigError if there is no such element."""
    if symbol not in ATOMIC_NUMBERS or symbol == "X":
        raise ConfigError("EQ1003", f"species={symbol!r} is not a chemical symbol")
    return ATOMIC_NUMBERS[symbol]


def species_index(atomic_numbers: np.ndarray, species: Sequence[str], where: str = "") -> np.ndarray:
    """Z of each atom -> index into `species`.

    Args:    atomic_numbers [n_atoms]; species: symbols the potential knows, in its order; where: file and frame, put
             before the message
    Returns: [n_atoms] int64
    Raises:  GraphError naming the first atom of an unknown species
    """
    table = np.full(len(SYMBOLS), -1, dtype=np.int64)
    for k, symbol in enumerate(species):
        table[atomic_number(symbol)] = k
    numbers = np.asarray(atomic_numbers, dtype=np.int64)
    outside = (numbers < 1) | (numbers >= len(SYMBOLS))
    index = table[np.where(outside, 0, numbers)]
    if (index < 0).any():
        atom = int(np.argmax(index < 0))
        z = int(numbers[atom])
        symbol = SYMBOLS[z] if 0 <= z < len(SYMBOLS) else f"Z={z}"
        at = f"{where}: " if where else ""
        raise GraphError(
            "EQ2101",
            f"{at}species: atom {atom} is {symbol}, but this potential knows only {' '.join(species)}; "
            "use a potential trained on this element",
        )
    return index
