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
# Å, single bonds, by atomic number; elements beyond curium are taken to be as large as it
# Source: Cordero et al., Dalton Trans. 2832 (2008); C sp3, Mn, Fe and Co low spin
_RADII = (
    "0.31 0.28 1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76 1.70 "
    "1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90 1.75 1.64 1.54 "
    "1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04 2.03 2.01 1.99 1.98 1.98 "
    "1.96 1.94 1.92 1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32 1.45 1.46 1.48 1.40 "
    "1.50 1.50 2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69 "
).split()
COVALENT_RADII = np.array([0.0, *map(float, _RADII), *[1.69] * (len(SYMBOLS) - 1 - len(_RADII))])


def atomic_number(symbol: str) -> int:
    """Z of a chemical symbol.  Raises: ConfigError if there is no such element."""
    if symbol not in ATOMIC_NUMBERS or symbol == "X":
        raise ConfigError("EQ1003", f"species={symbol!r} is not a chemical symbol; write e.g. H or Cl")
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
