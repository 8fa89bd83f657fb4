"""A loaded potential: structures in, energies, forces and stress out.

`eqff.load` makes a `Potential`.  It checks structures, packs them into batches and says what their results are worth;
the derivatives themselves are taken in `eqff.potential`.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqff.elements import ATOMIC_NUMBERS, species_index
from eqff.errors import ConfigError, PotentialError, RunError, printable
from eqff.graph import Structure, batch_structures, check_atoms, grouped, n_edges
from eqff.neighbors import build_structure
from eqff.potential import EnergyForces, Evaluator, energy_forces_stress, voigt_stress

# Edges of one batch.  On CPUs larger batches fall out of the cache and are slower; GPUs need large ones.
MAX_EDGES = {"cpu": 2_000, "cuda": 50_000}


class Prediction(NamedTuple):
    """Results for one structure: float64 numbers with their own memory."""

    energy: float  # eV
    energies: np.ndarray | None  # [n_atoms] eV, sums to energy; None where a baseline gives no energies of atoms
    forces: np.ndarray  # [n_atoms, 3] eV/Å
    stress: np.ndarray | None  # [6] eV/Å^3 in Voigt order xx yy zz yz xz xy; None unless periodic in three directions

    def __repr__(self) -> str:
        largest = float(np.linalg.norm(self.forces, axis=1).max(initial=0.0))
        stress = "None" if self.stress is None else "[" + ", ".join(f"{x:.4g}" for x in self.stress) + "] eV/Å^3"
        return (
            f"Prediction(energy={self.energy:.6f} eV, forces of {len(self.forces)} atoms up to {largest:.4g} eV/Å, "
            f"stress={stress})"
        )


@dataclass(frozen=True, repr=False)
class Potential:
    """A loaded potential: an evaluator and what a caller must know to use it.  Made by `eqff.load`.

    `predict` takes any structures; calling the potential takes a `Structure` with its edges, as engines do.
    """

    evaluator: Evaluator
    module: Any  # the torch.jit.ScriptModule or nn.Module that can be differentiated twice
    species: tuple[str, ...]  # symbols, in the order of species indices
    r_max: float  # Å
    n_hops: int  # receptive field in units of r_max
    dtype: torch.dtype  # of the weights
    device: torch.device
    header: Mapping[str, Any]
    path: Path | None = None
    program: str = "TorchScript"  # which program the evaluator runs

    def __repr__(self) -> str:
        """A card of five lines."""
        header = self.header
        name = header.get("name") or (self.path.name if self.path else "in memory")
        weights = f"{str(self.dtype).removeprefix('torch.')} weights on {self.device}"
        rows = {
            "Potential": f"{name} ({header.get('family', 'family not stated')})",
            "species": f"{' '.join(self.species)}; r_max {self.r_max:g} Å; receptive field {self.n_hops} x r_max",
            "runs": f"{self.program}, {weights}" + (f", plus baseline {self.baseline}" if self.baseline else ""),
            "data": _data(header),
            "errors": _errors(header),
        }
        return "\n".join(f"{row:<9}  {printable(value)}" for row, value in rows.items())

    def __call__(self, structure: Structure, edge_vector: Tensor | None = None) -> EnergyForces:
        """Energies, forces and strain gradient of a batch; tensors must live on this potential's device.

        A potential with a `baseline` gives the differences from it.
        """
        return energy_forces_stress(self.evaluator, structure, edge_vector)

    def predict(self, structures: Iterable[Any], max_edges: int | None = None) -> list[Prediction]:
        """Energies, forces and stress of many structures, evaluated in batches.

        Batches change results by rounding only.  One warning names compositions whose energy has an unknown constant.

        Args:    structures: objects with positions [n_atoms, 3] Å, numbers [n_atoms] Z, cell [3, 3] Å and pbc [3],
                 e.g. ase.Atoms, of any compositions; max_edges: of one batch, None for the default of this device
        Returns: one Prediction for each structure, in their order
        Raises:  GraphError naming a structure that is invalid; RunError EQ5301 for results that are not finite;
                 ConfigError EQ1220 for max_edges; PotentialError EQ4361 for a potential with a baseline
        """
        self.check_whole("Potential.predict")
        return self.differences(structures, max_edges)

    def differences(self, structures: Iterable[Any], max_edges: int | None = None) -> list[Prediction]:
        """As `predict`, for callers that add the results of a baseline; without a baseline it is the same."""
        names: list[str] = []

        def built() -> Iterator[Structure]:
            for atoms in structures:
                names.append(f"structure {len(names)}")
                yield self.structure(atoms.positions, atoms.numbers, atoms.cell, atoms.pbc, names[-1])

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
                stacklevel=3,
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
        """One Prediction for each structure (of one graph), from one evaluation; the results are not checked.

        If any result is not finite, every structure is evaluated alone, so that it spoils no other.
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

    def max_edges(self, requested: int | None = None) -> int:
        """Edges of one batch: as requested, or the default of this device.  Raises: ConfigError EQ1220"""
        if requested is None:
            return MAX_EDGES["cuda" if self.device.type == "cuda" else "cpu"]
        if not requested >= 1:
            raise ConfigError("EQ1220", f"max_edges={requested} is below 1; give e.g. {MAX_EDGES['cpu']}")
        return requested

    @property
    def baseline(self) -> str | None:
        """Name of the calculator whose results must be added to those of this potential; None for whole energies."""
        record = self.header.get("baseline")
        return str(record["name"]) if isinstance(record, Mapping) else None

    def check_whole(self, where: str) -> None:
        """Raises: PotentialError EQ4361 if this potential has a baseline, which `where` does not add."""
        if self.baseline is not None:
            raise PotentialError(
                "EQ4361",
                f"{where}: this potential gives only differences from {self.baseline}; EqffCalculator and the verbs "
                "predict, evaluate, relax and md add the rest",
            )

    @property
    def compositions(self) -> tuple[str, ...]:
        """Formulas this potential was trained on, if its header lists them."""
        data = self.header.get("training_data")
        return tuple(data.get("compositions") or ()) if isinstance(data, Mapping) else ()

    def knows_composition(self, counts: Sequence[int]) -> bool:
        """Whether the constant of the total energy is known: the composition is a combination of training compositions.

        Args: counts [n_species] number of atoms of each species, in this potential's order
        """
        rows = [_count_symbols(formula, self.species) for formula in self.compositions]
        if not rows:
            return True
        return bool(np.linalg.matrix_rank(np.array([*rows, counts])) == np.linalg.matrix_rank(np.array(rows)))


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


def _data(header: Mapping[str, Any]) -> str:
    """Where a potential comes from, as its header states it."""
    data = header.get("training_data")
    data = data if isinstance(data, Mapping) else {}
    frames = f"{data['n_train']} frames of {data.get('source', 'a file without name')}" if "n_train" in data else ""
    level = header.get("level_of_theory", "not stated")
    return ", ".join(filter(None, [frames, "" if level == "not stated" and frames else str(level)]))


def _errors(header: Mapping[str, Any]) -> str:
    """Errors on test frames, else on validation frames, as the header states them."""
    metrics = header.get("metrics")
    for name in ("test", "validation"):
        found = metrics.get(name) if isinstance(metrics, Mapping) else None
        if not isinstance(found, Mapping):
            continue
        units = {"forces_mae_meV_A": ("force", "meV/Å"), "energy_mae_meV": ("energy", "meV")}
        shown = [
            f"{what} MAE {found[key]:.3g} {unit}" for key, (what, unit) in units.items() if _number(found.get(key))
        ]
        if shown:
            frames = f"{found['n_frames']} " if "n_frames" in found else ""
            return f"{', '.join(shown)} on {frames}{name} frames"
    return "not stated"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
