"""What is examined: anything that gives energies and forces of structures, and what more it can do.

Subject         energies and forces of a structure: an ASE calculator
EdgeSubject     energies of atoms and their gradient for lists of edges: a foreign TorchScript program (`Program`)
ModelSubject    a module with the methods and attributes of a model, which can be differentiated twice
FamilySubject   a model and the family it comes from, which can make it anew
"""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import PotentialError
from eqff.graph import Structure, batch_structures, edge_vectors
from eqff.neighbors import build_structure
from eqff.potential import EnergyForces, Evaluator, GradientEvaluator, energy_forces_stress
from eqff.validation.limits import OF_DTYPE, Limits, measured
from eqff.validation.random_structures import random_structures
from eqff.validation.structures import cluster, crystal


@dataclass(frozen=True, kw_only=True)
class Subject(ABC):
    """Something that gives energies and forces."""

    n_species: int
    r_max: float  # Å, reach of an atom's neighbours
    structures: tuple[Structure, ...]  # ordinary structures to examine it on; the last is periodic
    limits: Limits

    @property
    def symmetry(self) -> str:
        """What it promises: O(3), or SE(3) if mirror images differ."""
        return "O(3)"

    @abstractmethod
    def evaluate(self, structure: Structure) -> EnergyForces:
        """Energies, forces and strain gradient; `energies` and `strain_gradient` are empty where there are none."""

    def evaluate_all(self, structures: Sequence[Structure]) -> list[EnergyForces]:
        """Of many structures that differ little."""
        return [self.evaluate(structure) for structure in structures]

    def structure(self, positions: Any, species: Any, cell: Any = None, reach: float = 0.0) -> Structure:
        """Atoms with all edges below r_max, or below `reach`; periodic in three directions if there is a cell.

        Args: positions [n_atoms, 3] Å; species [n_atoms], any integers; cell [3, 3] Å; reach Å
        """
        periodic = np.full(3, cell is not None)
        cell = np.zeros((3, 3)) if cell is None else np.asarray(cell)
        kinds = np.asarray(species) % self.n_species
        return build_structure(np.asarray(positions), kinds, cell, periodic, reach or self.r_max)

    @property
    def clusters(self) -> tuple[Structure, ...]:
        """The ordinary structures without a cell."""
        return self.structures[:-1]

    @property
    def crystal(self) -> Structure:
        """The ordinary structure with one."""
        return self.structures[-1]


@dataclass(frozen=True, kw_only=True)
class EdgeSubject(Subject):
    """Something that gives energies of atoms and their gradient for a list of edges."""

    @property
    @abstractmethod
    def evaluator(self) -> Evaluator: ...

    @property
    def n_hops(self) -> int | None:
        """Receptive field that it promises, in units of r_max; None if it promises nothing."""
        return None

    def evaluate(self, structure: Structure) -> EnergyForces:
        return energy_forces_stress(self.evaluator, structure)


@dataclass(frozen=True, kw_only=True)
class Program(EdgeSubject):
    """An evaluator about which nothing is known, such as a foreign TorchScript program."""

    program: Evaluator
    stated_hops: int | None = None  # by its author

    @property
    def evaluator(self) -> Evaluator:
        return self.program

    @property
    def n_hops(self) -> int | None:
        return self.stated_hops

    @classmethod
    def of(
        cls,
        evaluator: Evaluator,
        species: Sequence[str],
        r_max: float,
        *,
        stated_hops: int | None = None,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        **more: Any,
    ) -> Self:
        """Prepare the examination of a program on random structures; its limits are measured.

        Args:    evaluator: in eV and Å; species: symbols; r_max: Å; stated_hops: receptive field, by its author;
                 dtype: of the weights; seed: of the random structures
        Raises:  PotentialError EQ4331 if energies or forces of an ordinary structure are not finite
        """
        structures = tuple(random_structures(species, r_max, np.random.default_rng(seed)))
        for structure in structures:
            result = energy_forces_stress(evaluator, structure)
            if not bool(torch.isfinite(result.forces).all() & torch.isfinite(result.energies).all()):
                elements = " ".join(species[k] for k in structure.species.tolist())
                raise PotentialError(
                    "EQ4331",
                    f"energies or forces of a random structure ({elements}) are not finite; check --species, --r-max "
                    "and --units",
                )
        limits = measured(lambda s: energy_forces_stress(evaluator, s), structures, r_max, dtype, seed)
        return cls(
            program=evaluator,
            n_species=len(species),
            r_max=r_max,
            structures=structures,
            limits=limits,
            stated_hops=stated_hops,
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class ModelSubject(EdgeSubject):
    """A model without reference energies whose forces are about 1 eV/Å: limits are absolute, by its dtype."""

    model: nn.Module

    @property
    def evaluator(self) -> Evaluator:
        return GradientEvaluator(self.model)

    def evaluate_all(self, structures: Sequence[Structure]) -> list[EnergyForces]:
        """In one call."""
        result = self.evaluate(batch_structures(list(structures)))
        sizes = [len(structure.positions) for structure in structures]
        parts = result.energy.split(1), result.energies.split(sizes), result.forces.split(sizes)
        return [EnergyForces(*part) for part in zip(*parts, result.strain_gradient.split(1), strict=True)]

    @property
    def n_hops(self) -> int:
        return int(self.model.n_hops)  # type: ignore[arg-type]

    @property
    def symmetry(self) -> str:
        return str(self.model.symmetry)

    def in_float32(self) -> Self:
        """The same model with rounded weights, and the limits of float32."""
        model = copy.deepcopy(self.model).to(torch.float32)
        return dataclasses.replace(self, model=model, limits=OF_DTYPE[torch.float32])


@dataclass(frozen=True, kw_only=True)
class FamilySubject(ModelSubject):
    """A model that its family can make anew."""

    family: ModuleType
    config: Any  # of the family; the model may have another energy_scale and no reference_energies


@dataclass(frozen=True, kw_only=True)
class Calculator(Subject):
    """A calculator of ASE: total energies and forces, and stress where it has it."""

    calculator: Any
    species: tuple[str, ...]

    def evaluate(self, structure: Structure) -> EnergyForces:
        return _calculated(self.calculator, self.species, structure)

    @classmethod
    def of(
        cls, calculator: Any, species: Sequence[str], r_max: float, *, dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> Self:
        """Prepare the examination of a calculator on random structures; its limits are measured.

        Args: calculator: of ASE; species: symbols; r_max: Å, distance beyond which atoms do not feel each other;
              dtype: it computes in; seed: of the random structures
        """
        structures = tuple(random_structures(species, r_max, np.random.default_rng(seed)))
        limits = measured(lambda s: _calculated(calculator, species, s), structures, r_max, dtype, seed)
        return cls(
            calculator=calculator,
            species=tuple(species),
            n_species=len(species),
            r_max=r_max,
            structures=structures,
            limits=limits,
        )


def sample(r_max: float) -> tuple[Structure, ...]:
    """Ordinary structures of two species for a model: clusters of 8, 6 and 2 atoms and a crystal."""
    molecules = [cluster(r_max), cluster(r_max, 6, seed=6), cluster(r_max, 2, seed=2)]
    none, aperiodic = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    structures = [build_structure(positions, species, none, aperiodic, r_max) for positions, species in molecules]
    return (*structures, build_structure(*crystal(r_max), np.ones(3, dtype=bool), r_max))


def edges_of(structure: Structure) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `model.forward` takes."""
    return structure.species, structure.senders, structure.receivers, edge_vectors(structure)


def _calculated(calculator: Any, species: Sequence[str], structure: Structure) -> EnergyForces:
    from ase import Atoms

    numbers = [ATOMIC_NUMBERS[species[k]] for k in structure.species.tolist()]
    atoms = Atoms(numbers, structure.positions.numpy(), cell=structure.cell[0].numpy(), pbc=structure.pbc[0].numpy())
    atoms.calc = calculator
    energy, forces = (torch.tensor(x, dtype=torch.float64) for x in (atoms.get_potential_energy(), atoms.get_forces()))
    none = torch.zeros(0, dtype=torch.float64)
    virial = torch.zeros(0, 3, 3, dtype=torch.float64)
    if bool(structure.pbc.all()) and "stress" in calculator.implemented_properties:
        virial = torch.tensor(atoms.get_volume() * atoms.get_stress(voigt=False), dtype=torch.float64).unsqueeze(0)
    return EnergyForces(energy.reshape(1), none, forces, virial)
