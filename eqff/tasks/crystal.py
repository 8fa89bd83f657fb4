"""What the tasks about crystals (eos, elastic, phonons) share: settings, the relaxed start, strains."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from eqff.data.reading.structures import clear_labels, clear_results
from eqff.errors import ConfigError
from eqff.tasks.relax import RelaxConfig, minimum

Progress = Callable[[str], None]  # what is being done, in words


@dataclass(frozen=True, kw_only=True)
class CrystalConfig:
    """Settings: whether and how well to relax first, and the folder of the results."""

    relax: bool = True  # positions and cell first
    fmax: float = 1e-3  # eV/Å, of every relaxation
    steps: int = 500  # of every relaxation, at most
    output: Path = Path("crystal")
    force: bool = False  # overwrite existing results

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        self.relaxation()

    def relaxation(self, **changes: Any) -> RelaxConfig:
        return RelaxConfig(fmax=self.fmax, steps=self.steps, **changes)


def prepare(config: CrystalConfig, atoms: Atoms, calculator: Any, progress: Progress) -> Atoms:
    """The crystal to start from, with its energy, forces and stress: a copy, relaxed unless the settings say no.

    Raises: ConfigError EQ1270 unless periodic in three directions, EQ1271 constraints; RunError EQ5322
            when a relaxation does not converge; GraphError for an invalid structure
    """
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            "EQ1270",
            f"structure: pbc={atoms.pbc.tolist()}, cell rank {atoms.cell.rank}, expected a crystal that is periodic "
            "in three directions; give one, e.g. a CIF file",
        )
    if atoms.constraints:
        raise ConfigError("EQ1271", "structure: has constraints, which a crystal under strain cannot keep; remove them")
    if config.relax:
        progress("relaxing positions and cell")
        return relaxed(config, atoms, calculator, cell=True)
    atoms = atoms.copy()
    clear_results(atoms)
    clear_labels(atoms)
    atoms.calc = calculator
    results = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def relaxed(config: CrystalConfig, atoms: Atoms, calculator: Any, **changes: Any) -> Atoms:
    """A relaxed copy with its energy, forces and stress.

    Args:   changes: of the settings of `relax`, e.g. cell=True
    Raises: RunError EQ5322 if it does not converge
    """
    return minimum(config.relaxation(**changes), atoms, calculator)[0]


def pressure(atoms: Atoms) -> float:
    """GPa, positive under compression."""
    return float(-atoms.get_stress()[:3].mean() / units.GPa)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """A copy under a homogeneous strain: every row vector x of cell and positions becomes x (1 + strain).

    Args: strain [3, 3] symmetric
    """
    new = atoms.copy()
    new.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return new
