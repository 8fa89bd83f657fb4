"""Isolated atoms with stated energies: whatever its weights are, a model gives them exactly.

    e_i -> e_i - (e(atom of the element of i without neighbours) - stated energy of the element)

Training evaluates such atoms beside every batch. folder/trained.py puts the same difference into the reference energies
of the finished model, so that a potential file needs nothing else.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from eqff.potential import Model


class LoneAtoms:
    """Elements whose isolated atoms have a stated energy.

    Args: species: symbols in the order of the model; energies: symbol -> eV of an isolated atom
    """

    def __init__(self, species: Sequence[str], energies: Mapping[str, float]) -> None:
        self.n_species = len(species)
        held = [k for k, symbol in enumerate(species) if symbol in energies]
        self.species = torch.tensor(held, dtype=torch.int64)
        self.energy = torch.tensor([energies[species[k]] for k in held], dtype=torch.float64)  # eV

    def __len__(self) -> int:
        """Number of elements; without any, models stay as they are."""
        return len(self.species)

    def held(self, model: Model, species: Tensor | None = None, energy: Tensor | None = None) -> Model:
        """The model with the stated energies.

        Args: species, energy: instead of those of this object, inside a traced program
        """
        alone = self.species if species is None else species
        stated = self.energy if energy is None else energy
        if not len(self):
            return model

        def corrected(species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
            n_atoms = len(species)
            own, target = alone.to(species.device), stated.to(species.device)
            energy = model(torch.cat([species, own]), senders, receivers, edge_vector)
            excess = energy.new_zeros(self.n_species).index_copy(0, own, energy[n_atoms:] - target)
            return energy[:n_atoms] - excess.index_select(0, species)

        return corrected
