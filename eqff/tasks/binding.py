"""Cohesive and formation energies per atom.

E_cohesive = (sum of E(isolated atom) - E) / N,         positive for what is bound
E_formation = (E - sum of E(elemental phase) / atom) / N,   negative for what is stable against its elements

Isolated atoms are those of the training data, which the header of a potential names; elemental phases are structures
of the user, relaxed with the same potential.  Both are at 0 K, without vibrations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ase import Atoms

from eqff.artifact.potential import Potential
from eqff.errors import ConfigError, DataError
from eqff.tasks.relax import RelaxConfig, minimum

FMAX = 0.01  # eV/Å, of the elemental phases: their energies are then good to about 0.1 meV/atom
STEPS = 1000


class References(NamedTuple):
    """Energies in eV by symbol."""

    isolated: Mapping[str, float]  # of atoms; empty if the potential states none
    elemental: Mapping[str, float]  # per atom of the lowest phase; empty without phases

    def cohesive(self, atoms: Atoms, energy: float) -> float | None:
        """eV/atom; None if an isolated atom is unknown."""
        difference = _above(self.isolated, atoms, energy)
        return None if difference is None else -difference

    def formation(self, atoms: Atoms, energy: float) -> float | None:
        """eV/atom; None if an elemental phase is unknown."""
        return _above(self.elemental, atoms, energy)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"isolated_atoms_eV": dict(self.isolated), "elements_eV_atom": dict(self.elemental)}


NONE = References({}, {})


def isolated_energies(potential: Potential) -> dict[str, float]:
    """Energies of isolated atoms in eV by symbol; empty if the potential was trained without, or on differences."""
    data = potential.header.get("training_data")
    found = data.get("isolated_atoms_eV", {}) if isinstance(data, Mapping) and potential.baseline is None else {}
    return {str(symbol): float(energy) for symbol, energy in found.items()}


def elemental_energies(
    phases: Sequence[Atoms], calculator: Any, progress: Callable[[str], None] = lambda text: None
) -> dict[str, float]:
    """Relax elemental phases, crystals with their cell; of several for an element the lowest counts.

    Returns: eV/atom by symbol
    Raises:  DataError EQ3958 for a structure of several elements; RunError EQ5322 if a relaxation does not converge
    """
    for number, phase in enumerate(phases):
        if len(set(phase.symbols)) != 1:
            raise DataError(
                "EQ3958",
                f"elements: structure {number} is {phase.get_chemical_formula()}, expected a phase of one element; "
                "leave it out",
            )
    energies: dict[str, float] = {}
    for number, phase in enumerate(phases, 1):
        symbol = str(phase.symbols[0])
        progress(f"elemental phase {number} of {len(phases)}, {symbol}")
        crystal = bool(phase.pbc.all()) and phase.cell.rank == 3
        end, _ = minimum(RelaxConfig(fmax=FMAX, steps=STEPS, cell=crystal), phase, calculator)
        energy = float(end.get_potential_energy()) / len(end)
        energies[symbol] = min(energy, energies.get(symbol, energy))
    return energies


def check_elements(elemental: Mapping[str, float], atoms: Atoms) -> None:
    """Raises: ConfigError EQ1970 naming elements without a phase."""
    missing = sorted(set(atoms.symbols) - set(elemental))
    if missing:
        raise ConfigError(
            "EQ1970",
            f"elements: no phase of {', '.join(missing)}, which {atoms.get_chemical_formula()} contains; add it to "
            "the file of --elements-from",
        )


def _above(energies: Mapping[str, float], atoms: Atoms, energy: float) -> float | None:
    symbols = list(atoms.symbols)
    if not symbols or not set(symbols) <= set(energies):
        return None
    return (energy - sum(energies[symbol] for symbol in symbols)) / len(symbols)
