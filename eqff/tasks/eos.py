r"""Equation of state of a crystal: energy against volume, and the Birch-Murnaghan parameters.

E(V) = E0 + 9 V0 B0 / 16 { (x - 1)^3 B' + (x - 1)^2 (6 - 4 x) },   x = (V0 / V)^(2/3)

At each volume the shape of the cell and the positions are relaxed.  Pressures from the stress, which the fit does not
use, are compared with -dE/dV of the fit: they agree if energies and stresses belong together.

Source: F. Birch, Phys. Rev. 71, 809 (1947); fit by ase.eos.
"""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState, birchmurnaghan

from eqff.data.reading.structures import frame_text
from eqff.errors import ConfigError, RunError
from eqff.tasks.binding import NONE, References
from eqff.tasks.crystal import CrystalConfig, Progress, prepare, pressure, relaxed, strained
from eqff.tasks.results_folder import results_folder, write_texts


@dataclass(frozen=True, kw_only=True)
class EosConfig(CrystalConfig):
    """Settings; the folder gets eos.csv, eos.json, structures.extxyz and the relaxed crystal."""

    range: float = 0.06  # volumes from 1 - range to 1 + range of the start's
    n_points: int = 11
    output: Path = Path("eos")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.range <= 0.5:
            raise ConfigError("EQ1273", f"range={self.range}: expected a fraction of the volume up to 0.5; give 0.06")
        if self.n_points < 5:
            raise ConfigError("EQ1274", f"n_points={self.n_points}: four parameters need 5 volumes or more; give 11")


class EosReport(NamedTuple):
    """Results; extensive numbers are those of the whole cell."""

    atoms: Atoms  # the crystal at the minimum of the fit
    volumes: np.ndarray  # [n_points] Å^3
    energies: np.ndarray  # [n_points] eV
    pressures: np.ndarray  # [n_points] GPa, from the stress
    energy: float  # eV, E0
    volume: float  # Å^3, V0
    bulk_modulus: float  # GPa, B0
    bulk_modulus_derivative: float  # B'
    residual: float  # eV, RMS of energies about the fit
    pressure_difference: float  # GPa, RMS between stress and fit
    files: tuple[Path, ...]
    cohesive_energy: float | None = None  # eV/atom, None where isolated atoms are unknown
    formation_energy: float | None = None  # eV/atom, None where elemental phases are unknown

    def fitted(self, volumes: np.ndarray) -> np.ndarray:
        """eV, the fit at volumes in Å^3."""
        modulus = self.bulk_modulus * units.GPa
        return np.asarray(birchmurnaghan(volumes, self.energy, modulus, self.bulk_modulus_derivative, self.volume))


def run_eos(
    config: EosConfig,
    atoms: Atoms,
    calculator: Any,
    progress: Progress = lambda text: None,
    references: References = NONE,
) -> EosReport:
    """Relax, evaluate the volumes, fit and write; the caller's atoms are not changed.

    Args:    config; atoms: a crystal; calculator: any ASE calculator with stress; progress;
             references: energies of isolated atoms and elemental phases
    Returns: EosReport
    Raises:  as `crystal.prepare` and `results_folder`; RunError EQ5331 when the energies have no minimum in
             the range of volumes
    """
    with results_folder(config.output, config.force):
        return _run(config, atoms, calculator, progress, references)


def _run(config: EosConfig, atoms: Atoms, calculator: Any, progress: Progress, references: References) -> EosReport:
    start = prepare(config, atoms, calculator, progress)
    structures = []
    for number, factor in enumerate(np.linspace(1.0 - config.range, 1.0 + config.range, config.n_points), 1):
        progress(f"volume {number} of {config.n_points}")
        scaled = strained(start, np.eye(3) * (factor ** (1.0 / 3.0) - 1.0))
        structures.append(relaxed(config, scaled, calculator, cell=True, constant_volume=True))
    volumes = np.array([one.get_volume() for one in structures])
    energies = np.array([one.get_potential_energy() for one in structures])
    pressures = np.array([pressure(one) for one in structures])
    energy, volume, modulus, derivative = _fit(volumes, energies)
    minimum = strained(start, np.eye(3) * ((volume / start.get_volume()) ** (1.0 / 3.0) - 1.0))
    report = EosReport(
        relaxed(config, minimum, calculator, cell=True, constant_volume=True),
        volumes,
        energies,
        pressures,
        energy,
        volume,
        modulus,
        derivative,
        residual=0.0,
        pressure_difference=0.0,
        files=(),
        cohesive_energy=references.cohesive(start, energy),
        formation_energy=references.formation(start, energy),
    )
    residual = float(np.sqrt(np.mean((energies - report.fitted(volumes)) ** 2)))
    step = 1e-4 * volume
    slope = (report.fitted(volumes - step) - report.fitted(volumes + step)) / (2.0 * step) / units.GPa
    difference = float(np.sqrt(np.mean((pressures - slope) ** 2)))
    report = report._replace(residual=residual, pressure_difference=difference)
    return report._replace(files=tuple(write_texts(config.output, _contents(report, structures), calculator)))


def plain(report: EosReport) -> dict[str, Any]:
    """The numbers of a report by name and unit, for JSON."""
    n_atoms = len(report.atoms)
    lengths, angles = np.split(report.atoms.cell.cellpar(), 2)
    return {
        "formula": report.atoms.get_chemical_formula(),
        "n_atoms": n_atoms,
        "volume_A3": report.volume,
        "volume_A3_atom": report.volume / n_atoms,
        "energy_eV": report.energy,
        "energy_eV_atom": report.energy / n_atoms,
        "cohesive_energy_eV_atom": report.cohesive_energy,
        "formation_energy_eV_atom": report.formation_energy,
        "bulk_modulus_GPa": report.bulk_modulus,
        "bulk_modulus_derivative": report.bulk_modulus_derivative,
        "cell_lengths_A": lengths.tolist(),
        "cell_angles_deg": angles.tolist(),
        "residual_meV_atom": 1e3 * report.residual / n_atoms,
        "pressure_difference_GPa": report.pressure_difference,
        "volumes_A3": report.volumes.tolist(),
        "energies_eV": report.energies.tolist(),
        "pressures_GPa": report.pressures.tolist(),
    }


def _fit(volumes: np.ndarray, energies: np.ndarray) -> tuple[float, float, float, float]:
    """E0 in eV, V0 in Å^3, B0 in GPa, B'.  Raises: RunError EQ5331"""
    equation = EquationOfState(volumes, energies, eos="birchmurnaghan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit that fails, said below
            volume, energy, modulus = equation.fit(warn=False)
        derivative = float(equation.eos_parameters[2])
    except (RuntimeError, ValueError, TypeError):
        volume = energy = modulus = derivative = math.nan
    if not (volumes.min() < volume < volumes.max() and modulus > 0.0):
        low, high = float(volumes.min()), float(volumes.max())
        raise RunError(
            "EQ5331",
            f"energies between {low:.4g} and {high:.4g} Å^3 have no minimum; relax the crystal first "
            "(without --no-relax), or choose another --range",
        )
    return float(energy), float(volume), float(modulus) / units.GPa, derivative


def _contents(report: EosReport, structures: list[Atoms]) -> list[tuple[str, str]]:
    """Names and contents of the files."""
    rows = ["volume_A3,volume_A3_atom,energy_eV,energy_of_fit_eV,pressure_GPa"]
    table = zip(report.volumes, report.energies, report.fitted(report.volumes), report.pressures, strict=True)
    for volume, energy, fit, stress in table:
        rows.append(f"{volume:.6f},{volume / len(report.atoms):.6f},{energy:.9f},{fit:.9f},{stress:.6f}")
    return [
        ("eos.csv", "\n".join(rows) + "\n"),
        ("eos.json", json.dumps(plain(report), indent=1) + "\n"),
        ("structures.extxyz", "".join(map(frame_text, structures))),
        ("structure.extxyz", frame_text(report.atoms)),
    ]
