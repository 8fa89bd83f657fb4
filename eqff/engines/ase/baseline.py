"""Baseline: the calculator whose results must be added to those of a potential that was trained on differences.

E = E_baseline + E_potential,   F = F_baseline + F_potential,   the same for stress

The potential's header names this calculator and holds its results for one structure: a calculator that does not
reproduce them has another level of theory and is refused.  Each calculation gets a new, neutral structure, so that
results depend on positions, elements and cell only.
"""

import contextlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from eqff.artifact.lookup import SUFFIX, find
from eqff.artifact.potential import Potential, Prediction
from eqff.digest import file_sha256
from eqff.engines.ase.calculators import calculator_maker
from eqff.engines.ase.dispersion import dispersion
from eqff.errors import ConfigError, EqffError, PotentialError

ENERGY_TOLERANCE = (
    1e-3  # eV per atom: rounding and convergence of another machine or version pass, another method does not
)
FORCE_TOLERANCE = 5e-3  # eV/Å
ONE_THREAD = threading.RLock()  # calculators of ASE keep state, and copies of an EqffCalculator share a baseline
STEP = 0.005  # Å, of central differences
CONTAINS_DISPERSION = re.compile(r"(?<![A-Za-z0-9])D[34](?![A-Za-z0-9])|D[34]\(", re.IGNORECASE)  # in a level of theory
SUM_TOLERANCE = 1e-6  # eV per atom: energies of atoms that sum to the energy


class Baseline:
    """Results of an ASE calculator for plain arrays.

    Args: calculator: of ASE; name: for messages
    """

    def __init__(self, calculator: Any, name: str) -> None:
        self.calculator, self.name = calculator, name

    def __call__(
        self, positions: Any, atomic_numbers: Any, cell: Any, pbc: Any, where: str = "structure"
    ) -> Prediction:
        """Energy and forces, with stress and energies of atoms if the calculator has them.

        Args:   positions [n_atoms, 3] Å; atomic_numbers [n_atoms]; cell [3, 3] Å; pbc [3]; where: for messages
        Raises: PotentialError EQ4362 if the calculator fails, EQ4925 if a result is not finite
        """
        with ONE_THREAD:
            return self._results(Atoms(numbers=atomic_numbers, positions=positions, cell=cell, pbc=pbc), where)

    def _results(self, atoms: Atoms, where: str) -> Prediction:
        able = getattr(self.calculator, "implemented_properties", ())
        try:
            getattr(self.calculator, "reset", dict)()  # no wave function of an earlier structure changes results
            atoms.calc = self.calculator
            forces = np.array(atoms.get_forces(), dtype=np.float64)
            energy = float(atoms.get_potential_energy(force_consistent="free_energy" in able))
            stress = None
            if atoms.pbc.all() and "stress" in able:
                stress = np.array(atoms.get_stress(), dtype=np.float64)
        except EqffError as error:
            raise PotentialError(
                "EQ4362",
                f"{where}: baseline {self.name} failed ({error}); check that the baseline can compute this structure",
            ) from error
        except Exception as error:  # a foreign program may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise PotentialError(
                "EQ4362",
                f"{where}: baseline {self.name} failed ({reason}); check that the baseline can compute this structure",
            ) from error
        if not (np.isfinite(energy) and np.isfinite(forces).all() and (stress is None or np.isfinite(stress).all())):
            reason = f"energy ({energy} eV), forces or stress are not finite"
            raise PotentialError(
                "EQ4925", f"{where}: baseline {self.name}: {reason}; check that its atoms do not overlap"
            )
        return Prediction(energy, self._energies(energy, len(atoms)), forces, stress)

    def added(
        self,
        prediction: Prediction,
        positions: Any,
        atomic_numbers: Any,
        cell: Any,
        pbc: Any,
        where: str = "structure",
    ) -> Prediction:
        """Sum of a potential's results and those of the baseline for this structure; see `__call__`.

        Stress and energies of atoms exist only if both have them.
        """
        base = self(positions, atomic_numbers, cell, pbc, where)
        return Prediction(
            prediction.energy + base.energy,
            None if prediction.energies is None or base.energies is None else prediction.energies + base.energies,
            prediction.forces + base.forces,
            None if prediction.stress is None or base.stress is None else prediction.stress + base.stress,
        )

    def hessian(self, positions: Any, atomic_numbers: Any, cell: Any, pbc: Any, rows: Any) -> np.ndarray:
        """Second derivatives of the energy by central differences of the forces; [3 n_rows, 3 n_atoms] eV/Å^2."""
        derivatives = []
        for atom in rows:
            for axis in range(3):
                forces = []
                for step in (STEP, -STEP):
                    moved = np.array(positions, dtype=np.float64)
                    moved[atom, axis] += step
                    forces.append(self(moved, atomic_numbers, cell, pbc).forces)
                derivatives.append((forces[1] - forces[0]).reshape(-1) / (2.0 * STEP))
        return np.array(derivatives).reshape(3 * len(rows), 3 * len(positions))

    def check(self, expected: dict[str, Any]) -> None:
        """Compare with the results that a header holds.  Raises: PotentialError EQ4364"""
        positions, atomic_numbers, cell, pbc = (expected[k] for k in ("positions", "atomic_numbers", "cell", "pbc"))
        result = self(positions, atomic_numbers, cell, pbc, "the structure in the potential's header")
        energy = abs(result.energy - expected["energy"]) / len(expected["atomic_numbers"])
        forces = float(np.abs(result.forces - np.array(expected["forces"], dtype=np.float64)).max())
        if energy > ENERGY_TOLERANCE or forces > FORCE_TOLERANCE:
            raise PotentialError(
                "EQ4364",
                f"baseline {self.name}: differs by {energy:.2g} eV/atom and {forces:.2g} eV/Å from the one that the "
                "potential was trained on: another method, parameters or version; give the same",
            )

    def _energies(self, energy: float, n_atoms: int) -> np.ndarray | None:
        """[n_atoms] eV, if the calculator has them and they sum to the energy."""
        energies = getattr(self.calculator, "results", {}).get("energies")
        if (
            energies is None
            or np.shape(energies) != (n_atoms,)
            or not abs(np.sum(energies) - energy) < SUM_TOLERANCE * n_atoms
        ):
            return None
        return np.array(energies, dtype=np.float64)


class Sum(Baseline):
    """Several at once."""

    def __init__(self, parts: Sequence[Baseline]) -> None:
        self.parts, self.name = parts, " + ".join(part.name for part in parts)

    def __call__(
        self, positions: Any, atomic_numbers: Any, cell: Any, pbc: Any, where: str = "structure"
    ) -> Prediction:
        """As that of a Baseline."""
        first, *others = self.parts
        found = first(positions, atomic_numbers, cell, pbc, where)
        for other in others:
            found = other.added(found, positions, atomic_numbers, cell, pbc, where)
        return found


def added_to(potential: Potential, calculator: Any = None, dispersed: str | None = None) -> Baseline | None:
    """What must be added to the results of a potential: its baseline, and the dispersion that the user wants.

    Args:   calculator: as `baseline_of`; dispersed: e.g. "d3:PBE"
    Raises: as `baseline_of` and `dispersion.dispersion`; ConfigError EQ1969 if the potential contains D3 or D4 already
    """
    baseline = baseline_of(potential, calculator)
    if dispersed is None:
        return baseline
    header = potential.header
    for level in (header.get("level_of_theory"), (header.get("baseline") or {}).get("level_of_theory")):
        if CONTAINS_DISPERSION.search(str(level)):
            raise ConfigError(
                "EQ1969",
                f"add={dispersed!r}: this potential gives {level}: dispersion would be counted twice; leave it out",
            )
    extra = Baseline(*dispersion(dispersed))
    return extra if baseline is None else Sum([baseline, extra])


def baseline_of(potential: Potential, calculator: Any = None) -> Baseline | None:
    """The baseline of a potential, checked; None for a potential of whole energies.

    Args:   calculator: of ASE, instead of the one that the header names
    Raises: PotentialError EQ4360 if it cannot be made, EQ4364 if it is not the one used in training; ConfigError
            EQ1443 for a calculator with a potential of whole energies, EQ1925 for what is no calculator
    """
    record = potential.header.get("baseline")
    if record is None:
        if calculator is not None:
            raise ConfigError("EQ1443", "baseline: this potential gives whole energies; leave baseline out")
        return None
    if calculator is not None and not hasattr(calculator, "get_forces"):
        raise ConfigError(
            "EQ1925", f"baseline={calculator!r}: expected an ASE calculator; give an object with get_forces"
        )
    baseline = Baseline(_make(potential) if calculator is None else calculator, record["name"])
    baseline.check(record["check"])
    return baseline


def _make(potential: Potential) -> Any:
    record = potential.header["baseline"]
    try:
        return calculator_maker(record["name"] if record["sha256"] is None else str(_find(record, potential.path)))()
    except Exception as error:  # a function of the user's own may raise anything
        what = "this potential" if potential.path is None else str(potential.path)
        raise PotentialError(
            "EQ4360",
            f"{what}: gives differences from {record['name']} ({record['level_of_theory']}), which cannot be made "
            f"({error}); or give EqffCalculator the calculator itself, baseline=...",
        ) from error


def _find(record: dict[str, Any], path: Path | None) -> Path:
    """The potential with this SHA-256: beside the file, or of this name.

    Raises: PotentialError EQ4363
    """
    beside = [] if path is None else sorted(file for file in path.parent.glob(f"*{SUFFIX}") if file != path)
    with contextlib.suppress(PotentialError):  # no potential has this name
        beside.append(find(record["name"]))
    for candidate in beside:
        if file_sha256(candidate) == record["sha256"]:
            return candidate
    raise PotentialError(
        "EQ4363",
        f"no potential with SHA-256 {record['sha256']} is named {record['name']} or lies beside it; put it there",
    )
