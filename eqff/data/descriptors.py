r"""Vectors that say how alike two structures are: the same for rotated, shifted, reflected and renumbered ones.

For an atom i, with r_ij the distance and u_ij the unit vector to each neighbour j within r_max

    g_n(r)   = exp(-((r - c_n) / w)^2 / 2) (1 - (r / r_max)^2)^3          smooth, 0 at r_max with two derivatives
    G_ibn    = sum_{j of species b} g_n(r_ij)                             how many neighbours at which distance
    A_ibcnl  = sum_{j of b, k of c} g_n(r_ij) g_n(r_ik) (u_ij . u_ik)^l   and at which angles, l = 1, 2

The last is a contraction of two tensors sum_j g_n u^(l), so the cost grows with the number of neighbours, not of pairs.
The vector of a structure holds their means over the atoms of each species, and the shares of the species.  Averages
of environments do not tell every two structures apart, but close ones are close: enough to find what is new in a set.

Related: Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); Bartók et al., Phys. Rev. B 87, 184115 (2013).
"""

from collections.abc import Sequence

import numpy as np

from eqff.data.frame import Frame
from eqff.elements import species_index
from eqff.errors import ConfigError
from eqff.graph import edge_vectors_numpy
from eqff.neighbors import neighbor_list

N_RADIAL = 6
SHORTEST = 0.8  # Å, centre of the first Gaussian
MAX_SIZE = 128  # of a vector that is kept; longer ones are projected


class Descriptor:
    """Frames to vectors.

    Args:   species: symbols that occur; r_max Å; seed: of the random projection (Johnson and Lindenstrauss) to MAX_SIZE
            numbers that longer vectors go through; distances keep within some 10 %
    Raises: ConfigError EQ1951 if r_max is not above SHORTEST
    """

    def __init__(self, species: Sequence[str], r_max: float = 5.0, seed: int = 0) -> None:
        if not r_max > SHORTEST:
            raise ConfigError("EQ1951", f"r_max={r_max} Å: must be above {SHORTEST}; choose a larger cut-off")
        self.species = tuple(species)
        self.r_max = float(r_max)
        self.centres = np.linspace(SHORTEST, r_max, N_RADIAL)  # Å
        n_species = len(self.species)
        self.pairs = np.triu_indices(n_species)
        self.full_size = n_species * (1 + N_RADIAL * (n_species + 2 * len(self.pairs[0])))
        self.size = min(self.full_size, MAX_SIZE)
        random = np.random.Generator(np.random.PCG64(seed))
        self.projection = (
            None if self.full_size <= MAX_SIZE else random.normal(size=(self.full_size, self.size)) / self.size**0.5
        )

    def __call__(self, frame: Frame) -> np.ndarray:
        """[size] float64 of one frame.  Raises: GraphError for an element that is not in species"""
        index = species_index(frame.atomic_numbers, self.species)
        n_atoms, n_species = len(index), len(self.species)
        environment = self.environments(frame, index).reshape(n_atoms, -1)
        counts = np.bincount(index, minlength=n_species)
        sums = np.zeros((n_species, environment.shape[1]))
        np.add.at(sums, index, environment)
        means = sums / np.maximum(counts, 1)[:, None]
        vector = np.concatenate([counts / n_atoms, means.reshape(-1)])
        return vector if self.projection is None else vector @ self.projection

    def environments(self, frame: Frame, index: np.ndarray) -> np.ndarray:
        """[n_atoms, n_radial * (n_species + 2 n_pairs)] G and A of each atom; index [n_atoms]: its species."""
        n_atoms, n_species = len(index), len(self.species)
        senders, receivers, shift = neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_max)
        vector = edge_vectors_numpy(frame.positions, senders, receivers, shift, frame.cell)
        length = np.sqrt((vector**2).sum(axis=1))
        unit = vector / length[:, None]
        radial = self.radial(length)  # [n_edges, n_radial]
        tensors = [radial[:, :, None], radial[:, :, None] * unit[:, None, :]]
        square = unit[:, :, None] * unit[:, None, :]
        tensors.append(radial[:, :, None] * square.reshape(len(unit), 1, 9))
        channel = receivers * n_species + index[senders]
        first, second = self.pairs
        parts = []
        for degree, tensor in enumerate(tensors):
            flat = tensor.reshape(len(tensor), N_RADIAL * 3**degree)
            sums = np.stack(
                [np.bincount(channel, weights=column, minlength=n_atoms * n_species) for column in flat.T], axis=1
            ).reshape(n_atoms, n_species, N_RADIAL, 3**degree)
            if degree == 0:
                parts.append(sums.reshape(n_atoms, -1))
            else:
                contracted = (sums[:, first] * sums[:, second]).sum(axis=-1)  # [n_atoms, n_pairs, n_radial]
                parts.append(contracted.reshape(n_atoms, -1))
        return np.concatenate(parts, axis=1)

    def radial(self, length: np.ndarray) -> np.ndarray:
        """[n, n_radial] g_n of lengths [n] in Å, not above r_max."""
        width = self.centres[1] - self.centres[0]
        gaussian = np.exp(-(((length[:, None] - self.centres) / width) ** 2) / 2)
        return gaussian * (1 - (np.minimum(length, self.r_max)[:, None] / self.r_max) ** 2) ** 3
