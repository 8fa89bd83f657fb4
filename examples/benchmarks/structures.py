"""The structures that the benchmarks time, made here so that no data has to be fetched."""

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule

WATER_SPACING = 3.105  # Å between molecules of the start lattice; 64 of them fill 12.42 Å (1.00 g/cm^3)
WATER_COUNTS = (7, 10, 12, 15)  # molecules along an edge: 1,029 to 10,125 atoms
ASPIRIN = """
C 3.404 0.554 0.055    C 2.044 0.139 0.531     O 1.689 0.144 1.703     O 1.288 -0.266 -0.564  C -0.028 -0.585 -0.219
C -0.328 -1.942 -0.067 C -1.629 -2.330 0.248   C -2.626 -1.367 0.398   C -2.327 -0.011 0.227  C -1.022 0.397 -0.091
C -0.703 1.833 -0.303  O 0.361 2.305 -0.659    O -1.756 2.637 -0.059   H 3.924 -0.305 -0.374  H 3.984 0.930 0.903
H 3.311 1.356 -0.682   H 0.449 -2.692 -0.186   H -1.866 -3.384 0.378   H -3.641 -1.670 0.647  H -3.124 0.719 0.343
H -1.404 3.538 -0.219
"""  # MMFF geometry, Å


def aspirin() -> Atoms:
    """C9H8O4, 21 atoms."""
    words = ASPIRIN.split()
    return Atoms(words[::4], [[float(x) for x in words[k + 1 : k + 4]] for k in range(0, len(words), 4)])


def water(n_side: int) -> Atoms:
    """n_side^3 molecules on a cubic lattice, turned at random; 3 n_side^3 atoms, periodic."""
    from scipy.spatial.transform import Rotation

    generator = np.random.default_rng(0)
    single = molecule("H2O")
    local = single.positions - single.get_center_of_mass()
    places = WATER_SPACING * np.array(list(np.ndindex(n_side, n_side, n_side)))
    turns = Rotation.random(len(places), random_state=generator).as_matrix()
    positions = (np.einsum("nij,aj->nai", turns, local) + places[:, None]).reshape(-1, 3)
    symbols = single.get_chemical_symbols() * len(places)
    return Atoms(symbols, positions, cell=[n_side * WATER_SPACING] * 3, pbc=True)


SYSTEMS = {
    "ethanol": lambda: molecule("CH3CH2OH"),
    "aspirin": aspirin,
    "64 H2O": lambda: water(4),
    "216 Si": lambda: bulk("Si", cubic=True).repeat(3),
} | {f"{n**3} H2O": lambda n=n: water(n) for n in WATER_COUNTS}


def thermal(atoms: Atoms, temperature: float, spring: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities of atoms on springs at a temperature, around where they are.

    Args:    temperature K; spring: force constant, eV/Å^2
    Returns: positions [n_atoms, 3] Å; velocities [n_atoms, 3] in ASE's unit
    """
    generator = np.random.default_rng(seed)
    shape, energy = atoms.positions.shape, units.kB * temperature
    positions = atoms.positions + np.sqrt(energy / spring) * generator.standard_normal(shape)
    velocities = np.sqrt(energy / atoms.get_masses())[:, None] * generator.standard_normal(shape)
    return positions, velocities
