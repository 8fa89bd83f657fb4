"""Energy, forces and stress: the only place that takes the gradient of a model or assembles what follows from it.

E = sum_i e_i,   g_ij = dE / d r_ij   (one gradient, with respect to edge vectors)
F_k = sum_(receiver = k) g - sum_(sender = k) g
dE / d strain = sum_ij r_ij (x) g_ij,   stress = (dE / d strain) / V   (ASE sign: tension is positive)
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from eqff.elements import ATOMIC_NUMBERS, species_index
from eqff.errors import ConfigError, PotentialError, RunError
from eqff.graph import Structure, batch_structures, check_atoms, edge_vectors
from eqff.neighbors import build_structure

# Edges of one batch.  On CPUs more than this falls out of the cache and is slower; a GPU wants many.
MAX_EDGES = {"cpu": 2_000, "cuda": 50_000}

Item = TypeVar("Item")


class Model(Protocol):
    """What families of models look like from here; see design: no forces, units, files, positions or cells inside."""

    def __call__(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        ...


class Evaluator(Protocol):
    """What engines call: per-atom energies and the one gradient, for atoms weighted 1 (owned) or 0 (ghosts)."""

    def __call__(
        self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, node_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(node_energy [n_atoms] eV, edge_gradient [n_edges, 3] = d(sum node_weight * node_energy)/d edge_vector)."""
        ...


class EnergyForces(NamedTuple):
    """Results for a batch of structures, float64."""

    energy: Tensor  # [n_graphs] eV
    energies: Tensor  # [n_atoms] eV, sums to energy
    forces: Tensor  # [n_atoms, 3] eV/Å
    strain_gradient: Tensor  # [n_graphs, 3, 3] eV, symmetric dE/d strain = -virial


class Prediction(NamedTuple):
    """Results for one structure: plain float64 numbers with their own memory."""

    energy: float  # eV
    energies: np.ndarray | None  # [n_atoms] eV, sums to energy; None where a baseline gives no energies of atoms
    forces: np.ndarray  # [n_atoms, 3] eV/Å
    stress: np.ndarray | None  # [6] eV/Å^3 in Voigt order xx yy zz yz xz xy; None unless periodic in three directions


class GradientEvaluator:
    """Evaluator of an eager or TorchScript model by autograd.

    Args: model: as `Model`; create_graph: keep the results differentiable (training, Hessians)
    """

    def __init__(self, model: Model, create_graph: bool = False) -> None:
        self.model = model
        self.create_graph = create_graph

    def __call__(
        self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, node_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            if edge_vector.is_inference() or senders.is_inference():  # made under torch.inference_mode
                species, senders, receivers = species.clone(), senders.clone(), receivers.clone()
                edge_vector, node_weight = edge_vector.clone(), node_weight.clone()
            if not (self.create_graph and edge_vector.requires_grad):
                edge_vector = edge_vector.detach().requires_grad_(True)
            node_energy = self.model(species, senders, receivers, edge_vector)
            weighted = torch.dot(node_weight, node_energy)
            if edge_vector.shape[0] == 0:  # nothing to differentiate; the graph may not reach edge_vector
                edge_gradient = torch.zeros_like(edge_vector)
            else:
                (edge_gradient,) = torch.autograd.grad([weighted], [edge_vector], create_graph=self.create_graph)
        if not self.create_graph:
            node_energy, edge_gradient = node_energy.detach(), edge_gradient.detach()
        return node_energy, edge_gradient


def energy_forces_stress(evaluator: Evaluator, structure: Structure, edge_vector: Tensor | None = None) -> EnergyForces:
    """Energies, forces and strain gradient of a batch of structures.

    Args:    evaluator: see `Evaluator`; structure: positions Å, float64, edges sorted by receiver;
             edge_vector [n_edges, 3] Å: of this structure, where it is known already
    Returns: EnergyForces, float64
    Source:  Knuth et al., Comput. Phys. Commun. 190, 33 (2015), eq. 29 for the strain derivative
    """
    if edge_vector is None:
        edge_vector = edge_vectors(structure)
    node_weight = torch.ones(structure.positions.shape[0], dtype=torch.float64, device=structure.positions.device)
    node_energy, edge_gradient = evaluator(
        structure.species, structure.senders, structure.receivers, edge_vector, node_weight
    )
    return assemble(structure, edge_vector, node_energy, edge_gradient)


def assemble(structure: Structure, edge_vector: Tensor, node_energy: Tensor, edge_gradient: Tensor) -> EnergyForces:
    """Sum per-atom energies and edge gradients to totals (equations at the top of this file)."""
    forces = torch.zeros_like(structure.positions, dtype=edge_gradient.dtype)
    forces.index_add_(0, structure.receivers, edge_gradient).index_add_(0, structure.senders, -edge_gradient)
    if structure.n_graphs == 1:
        energy = node_energy.sum(0, keepdim=True)
        strain_gradient = (edge_vector.T @ edge_gradient).unsqueeze(0)
    else:
        energy = node_energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, node_energy)
        dyad = edge_vector.unsqueeze(2) * edge_gradient.unsqueeze(1)  # [n_edges, 3, 3]
        strain_gradient = dyad.new_zeros(structure.n_graphs, 3, 3).index_add(
            0, structure.batch.index_select(0, structure.receivers), dyad
        )
    strain_gradient = 0.5 * (strain_gradient + strain_gradient.transpose(1, 2))
    return EnergyForces(energy, node_energy, forces, strain_gradient)


def hessian(
    potential: "Potential",
    structure: Structure,
    atoms: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Second derivatives of the energy, d2E / dx dx', analytic: one backward pass for each row.

    Args:    potential: whose program can be differentiated twice (a compiled one cannot); structure: of one graph;
             atoms: whose rows are wanted, None for all; progress: called with the number of rows done
    Returns: [3 n_rows, 3 n_atoms] eV/Å^2, float64; all rows together are symmetric up to rounding
    """
    with torch.inference_mode(False), torch.enable_grad():
        positions = structure.positions.clone().requires_grad_(True)
        evaluator = GradientEvaluator(potential.module, create_graph=True)
        forces = energy_forces_stress(evaluator, structure._replace(positions=positions)).forces
        if atoms is not None:
            forces = forces[torch.tensor(atoms, dtype=torch.int64, device=forces.device)]
        rows = forces.new_zeros(forces.numel(), positions.numel())
        if forces.requires_grad:  # else there are no edges: atoms that feel nothing
            for row, force in enumerate(forces.reshape(-1)):
                (gradient,) = torch.autograd.grad(force, positions, retain_graph=True)
                rows[row] = -gradient.reshape(-1)
                if progress is not None:
                    progress(row + 1)
    return rows.detach()


def voigt_stress(strain_gradient: Tensor, cell: Tensor) -> Tensor:
    """Stress of one structure periodic in three directions.

    Args:    strain_gradient [3, 3] eV; cell [3, 3] Å, rows are lattice vectors
    Returns: [6] eV/Å^3 in Voigt order xx, yy, zz, yz, xz, xy; ASE sign
    Raises:  PotentialError for a cell without volume
    """
    volume = torch.dot(torch.linalg.cross(cell[0], cell[1]), cell[2]).abs()
    if not float(volume) > 0.0:
        raise PotentialError("EQ4001", f"cell volume={float(volume)} Å^3: stress needs three lattice vectors")
    xx, xy, xz, _, yy, yz, _, _, zz = strain_gradient.reshape(9).unbind()
    return torch.stack([xx, yy, zz, yz, xz, xy]) / volume


@dataclass(frozen=True)
class Potential:
    """A loaded potential: an evaluator with what one must know to feed it.  Made by `eqff.load`, never by hand."""

    evaluator: Evaluator
    module: Any  # the torch.jit.ScriptModule or nn.Module behind the evaluator
    species: tuple[str, ...]  # symbols, in the order of species indices
    r_max: float  # Å
    n_hops: int  # receptive field in units of r_max
    dtype: torch.dtype  # of the weights
    device: torch.device
    header: Mapping[str, Any] = field(repr=False)
    path: Path | None = None
    program: str = "TorchScript"  # what the evaluator runs

    def __call__(self, structure: Structure, edge_vector: Tensor | None = None) -> EnergyForces:
        """Energies, forces and strain gradient of a batch; tensors must live on this potential's device.

        Of a potential with a `baseline` these are the differences from it.
        """
        return energy_forces_stress(self.evaluator, structure, edge_vector)

    def predict(self, structures: Iterable[Any], max_edges: int | None = None) -> list[Prediction]:
        """Energies, forces and stress of many structures, packed into batches of similar numbers of edges.

        The same as one by one up to rounding.  Warns once if a composition leaves the energy's constant unknown.

        Args:    structures: anything with positions [n_atoms, 3] Å, numbers [n_atoms] Z, cell [3, 3] Å and pbc [3],
                 such as ase.Atoms, in any mixture; max_edges: of one batch, None for a good number on this device
        Returns: one Prediction a structure, in the order given
        Raises:  GraphError naming the structure that cannot be taken; RunError EQ5301 for results that are not finite;
                 ConfigError EQ1220 for max_edges; PotentialError EQ4361 if these would be differences alone
        """
        self.check_whole("Potential.predict")
        names: list[str] = []

        def built() -> Iterator[Structure]:
            for one in structures:
                names.append(f"structure {len(names)}")
                yield self.structure(one.positions, one.numbers, one.cell, one.pbc, names[-1])

        predictions: list[Prediction] = []
        unknown: set[tuple[int, ...]] = set()
        for batch in grouped(built(), n_edges, self.max_edges(max_edges)):
            unknown.update(_counts(structure.species, len(self.species)) for structure in batch)
            for prediction in self.predict_batch(batch):
                check_finite(prediction, names[len(predictions)])
                predictions.append(prediction)
        if not all(self.knows_composition(counts) for counts in unknown):
            warnings.warn(
                f"the potential was trained on {', '.join(self.compositions)} only: energies of other compositions "
                "have an unknown constant, and their forces are extrapolated",
                UserWarning,
                stacklevel=2,
            )
        return predictions

    def structure(self, positions: Any, atomic_numbers: Any, cell: Any, pbc: Any, where: str = "") -> Structure:
        """One structure with its edges, checked, on this potential's device.

        Args:   as `eqff.graph.check_atoms`
        Raises: GraphError for what `eqff.graph`, `eqff.elements` and `eqff.neighbors` refuse
        """
        cell = np.asarray(cell, dtype=np.float64)
        check_atoms(positions, atomic_numbers, cell, pbc, where)
        species = species_index(atomic_numbers, self.species, where)
        return build_structure(positions, species, cell, pbc, self.r_max, self.device, where)

    def predict_batch(self, structures: Sequence[Structure]) -> list[Prediction]:
        """One Prediction for each structure (of one graph), from one evaluation; nothing is checked.

        A structure whose results are not finite does not spoil the others: then each is evaluated alone.
        """
        if not structures:
            return []
        result = self(batch_structures(structures))
        if len(structures) > 1 and not bool(
            torch.isfinite(result.forces).all() & torch.isfinite(result.energies).all()
        ):
            return [self.predict_batch([structure])[0] for structure in structures]
        energy, energies, forces = (_numpy(t) for t in (result.energy, result.energies, result.forces))
        strain_gradient = result.strain_gradient.detach().cpu()
        ends = np.cumsum([structure.positions.shape[0] for structure in structures])
        predictions = []
        for graph, (structure, end) in enumerate(zip(structures, ends, strict=True)):
            atoms = slice(end - structure.positions.shape[0], end)
            stress = None
            if bool(structure.pbc.all()):
                stress = _numpy(voigt_stress(strain_gradient[graph], structure.cell[0].cpu()))
            predictions.append(Prediction(float(energy[graph]), energies[atoms].copy(), forces[atoms].copy(), stress))
        return predictions

    def max_edges(self, wanted: int | None = None) -> int:
        """`wanted`, or else a good number of edges for one batch on this device.  Raises: ConfigError EQ1220"""
        if wanted is None:
            return MAX_EDGES["cuda" if self.device.type == "cuda" else "cpu"]
        if not wanted >= 1:
            raise ConfigError("EQ1220", f"max_edges={wanted}: expected a number >= 1, e.g. {MAX_EDGES['cpu']}")
        return wanted

    @property
    def baseline(self) -> str | None:
        """The calculator whose results must be added to those of this potential; None for whole energies."""
        told = self.header.get("baseline")
        return str(told["name"]) if isinstance(told, Mapping) else None

    def check_whole(self, where: str) -> None:
        """Raises: PotentialError EQ4361 if this potential gives only differences, where that is not looked after."""
        if self.baseline is not None:
            raise PotentialError(
                "EQ4361",
                f"{where}: this potential gives differences from {self.baseline} alone; EqffCalculator and the verbs "
                "predict, evaluate, relax and md add what is missing",
            )

    @property
    def compositions(self) -> tuple[str, ...]:
        """Formulas this potential was trained on, as far as its header says."""
        data = self.header.get("training_data")
        return tuple(data.get("compositions") or ()) if isinstance(data, Mapping) else ()

    def knows_composition(self, counts: Sequence[int]) -> bool:
        """Whether total energies have a known constant: the composition is a sum of those trained on.

        Args: counts [n_species] atoms of each species, in this potential's order
        """
        rows = [_count_symbols(formula, self.species) for formula in self.compositions]
        if not rows:
            return True
        return bool(np.linalg.matrix_rank(np.array([*rows, counts])) == np.linalg.matrix_rank(np.array(rows)))


def grouped(items: Iterable[Item], size: Callable[[Item], int], limit: int) -> Iterator[list[Item]]:
    """Consecutive items in groups whose sizes sum to at most `limit`; a larger item is alone.  Lazy, order kept."""
    group: list[Item] = []
    total = 0
    for item in items:
        more = size(item)
        if group and total + more > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += more
    if group:
        yield group


def n_edges(structure: Structure) -> int:
    """What a structure costs: its edges, or its atoms where they are more."""
    return max(structure.senders.shape[0], structure.positions.shape[0])


def check_finite(prediction: Prediction, where: str) -> None:
    """Raises: RunError EQ5301 naming the atom for energies or forces that are not finite"""
    energies = np.zeros(len(prediction.forces)) if prediction.energies is None else prediction.energies
    good = np.isfinite(prediction.forces).all(axis=1) & np.isfinite(energies)
    if good.all() and (prediction.stress is None or np.isfinite(prediction.stress).all()):
        return
    atom = int(np.argmin(good))
    force = ", ".join(f"{x:g}" for x in prediction.forces[atom])
    raise RunError(
        "EQ5301",
        f"{where}: atom {atom} has energy {energies[atom]:g} eV and force ({force}) eV/Å, expected finite "
        "numbers; the structure is far from what the potential was trained on: remove it",
    )


def _counts(species: Tensor, n_species: int) -> tuple[int, ...]:
    return tuple(torch.bincount(species, minlength=n_species).tolist())


def _count_symbols(formula: str, species: Sequence[str]) -> list[int]:
    """Atoms of each species in a formula such as C2H6O."""
    found = dict.fromkeys(ATOMIC_NUMBERS, 0)
    for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*)", formula):
        found[symbol] += int(number or 1)
    return [found[symbol] for symbol in species]


def _numpy(tensor: Tensor) -> np.ndarray:
    """float64 array with its own memory."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float64)
