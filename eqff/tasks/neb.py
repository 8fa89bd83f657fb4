"""Nudged elastic band with all images in one evaluation of the potential.

`run_neb` goes from two structures to a barrier; `BatchedNEB` is its band, for scripts:

from ase.optimize import FIRE
from eqff.tasks.neb import BatchedNEB

band = BatchedNEB(images, "malonaldehyde.eqff.pt", climb=True)   # as ase.mep.NEB(images, climb=True)
band.interpolate("idpp")
FIRE(band).run(fmax=0.02)
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic
from ase.mep import NEB
from ase.optimize import FIRE
from ase.utils.forcecurve import fit_images

from eqff import artifact
from eqff.artifact.potential import Potential
from eqff.data.frame import hill_formula
from eqff.data.reading.structures import clear_labels, clear_results, frame_text
from eqff.engines.ase.baseline import added_to
from eqff.engines.ase.together import share
from eqff.errors import ConfigError
from eqff.graph import check_atoms
from eqff.tasks.relax import RelaxConfig, minimum
from eqff.tasks.results_folder import results_folder, write_texts

SAME = 0.05  # Å: ends whose atoms have all moved less are one structure
COARSE = 5.0  # times fmax: from there on the highest image climbs


@dataclass(frozen=True, kw_only=True)
class NebConfig:
    """Settings; the folder gets path.extxyz, saddle.extxyz, neb.csv and neb.json."""

    images: int = 7  # between the ends
    fmax: float = 0.05  # eV/Å, largest force of the band
    steps: int = 500  # at most
    relax: bool = True  # both ends first
    climb: bool = True  # the highest image goes to the saddle point
    spring: float = 0.1  # eV/Å^2
    output: Path = Path("neb")
    force: bool = False  # overwrite existing results

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if not 1 <= self.images <= 1000:
            raise ConfigError("EQ1227", f"images={self.images}: expected 1 to 1000 between the ends; give e.g. 7")
        if not (self.fmax > 0.0 and math.isfinite(self.fmax) and self.spring > 0.0 and math.isfinite(self.spring)):
            raise ConfigError(
                "EQ1228", f"fmax={self.fmax} eV/Å, spring={self.spring} eV/Å^2: not above 0; give e.g. 0.05 and 0.1"
            )
        if self.steps < 0:
            raise ConfigError("EQ1229", f"steps={self.steps}: expected a number >= 0; give e.g. 500")


class NebReport(NamedTuple):
    """Results; energies are relative to the first structure."""

    images: list[Atoms]  # the path with its ends; energies and forces of the potential
    distances: np.ndarray  # [n] Å, along the path
    energies: np.ndarray  # [n] eV
    curve: tuple[np.ndarray, np.ndarray]  # Å and eV, a smooth curve with the slopes of the forces
    saddle: int  # the highest image
    converged: bool
    n_steps: int
    max_force: float  # eV/Å, of the band
    files: tuple[Path, ...]

    @property
    def barrier(self) -> float:
        """eV, from the first structure to the highest image."""
        return float(self.energies[self.saddle])

    @property
    def barrier_back(self) -> float:
        """eV, from the last structure to the highest image."""
        return float(self.energies[self.saddle] - self.energies[-1])


def run_neb(
    config: NebConfig,
    first: Atoms,
    last: Atoms,
    calculator: Any,
    progress: Callable[[str], None] = lambda text: None,
) -> NebReport:
    """Minimum-energy path between two structures by the climbing-image nudged elastic band; written to a folder.

    The band starts from image-dependent pair potentials (IDPP) and has improved tangents; all images are evaluated
    together. Across periodic boundaries every atom takes the shortest way.

    Args:    first, last: the same atoms in the same order and cell, not changed; calculator: EqffCalculator
    Returns: NebReport; `converged` is False if the steps did not suffice
    Raises:  ConfigError EQ1232 for other atoms, EQ1233 another cell, EQ1234 one structure twice; as `results_folder`;
             RunError EQ5322 if an end cannot be relaxed
    Source:  G. Henkelman, B. P. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000); S. Smidstrup et al., J. Chem.
             Phys. 140, 214106 (2014)
    """
    check_ends(first, last)
    with results_folder(config.output, config.force):
        ends = []
        for name, atoms in (("first", first), ("last", last)):
            atoms = atoms.copy()
            clear_results(atoms)
            clear_labels(atoms)
            if config.relax:
                progress(f"relaxing the {name} structure")
                relaxation = RelaxConfig(fmax=min(config.fmax, 0.01), steps=max(config.steps, 1))
                atoms, _ = minimum(relaxation, atoms, calculator)
            ends.append(atoms)
        check_ends(*ends)
        report = _band(config, ends[0], ends[1], calculator, progress)
        return report._replace(files=tuple(write_texts(config.output, _contents(report), calculator)))


def check_ends(first: Atoms, last: Atoms) -> None:
    """Raises: ConfigError EQ1232 to EQ1234, GraphError for an invalid structure"""
    for atoms in (first, last):
        check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, "structure")
    if not np.array_equal(first.numbers, last.numbers):
        formulas = hill_formula(first.numbers), hill_formula(last.numbers)
        reason = f"they are {formulas[0]} and {formulas[1]}" if formulas[0] != formulas[1] else "the order differs"
        raise ConfigError(
            "EQ1232", f"both ends must have the same atoms in the same order, and {reason}; renumber the atoms"
        )
    if not (np.array_equal(first.pbc, last.pbc) and np.allclose(first.cell.array, last.cell.array, atol=1e-4)):
        raise ConfigError(
            "EQ1233", "both ends must have the same cell and pbc; relax the first with its cell, and the last in it"
        )
    moved = find_mic(last.positions - first.positions, first.cell, first.pbc)[1].max()
    if moved < SAME:
        raise ConfigError(
            "EQ1234", f"both ends are one structure (atoms move by {moved:.3f} Å at most); give two different minima"
        )


def _band(config: NebConfig, first: Atoms, last: Atoms, calculator: Any, progress: Callable[[str], None]) -> NebReport:
    images = [first, *(first.copy() for _ in range(config.images)), last]
    images[-1] = last.copy()
    images[0] = first.copy()
    turns = not first.pbc.any() and not first.constraints
    options: dict[str, Any] = {"k": config.spring, "remove_rotation_and_translation": turns}
    band = BatchedNEB(images, calculator.potential, **options)
    share(images, calculator.potential, calculator.baseline)
    band.interpolate("idpp", mic=bool(first.pbc.any()))
    n_steps = 0

    def relax(fmax: float) -> None:
        nonlocal n_steps
        optimizer = FIRE(band, logfile=None)
        optimizer.attach(lambda: progress(f"step {n_steps + optimizer.nsteps}, {_force(band):.3f} eV/Å"))
        optimizer.run(fmax=fmax, steps=config.steps - n_steps)
        n_steps += optimizer.nsteps

    if config.climb:
        relax(COARSE * config.fmax)
        band.climb = True
    if n_steps < config.steps:
        relax(config.fmax)
    max_force = _force(band)
    kept = []
    for image in images:
        results = {"energy": image.get_potential_energy(), "forces": image.get_forces(apply_constraint=False)}
        atoms = image.copy()
        atoms.calc = SinglePointCalculator(atoms, **results)
        kept.append(atoms)
    fit = fit_images(kept)
    energies = np.array([atoms.get_potential_energy() for atoms in kept])
    energies -= energies[0]
    curve = np.asarray(fit.fit_path), np.asarray(fit.fit_energies)
    distances = np.asarray(fit.path)
    saddle, converged = int(energies.argmax()), max_force <= config.fmax
    return NebReport(kept, distances, energies, curve, saddle, converged, n_steps, max_force, files=())


def _force(band: NEB) -> float:
    """eV/Å, the largest of the band, which was evaluated before."""
    return float(np.linalg.norm(band.get_forces().reshape(-1, 3), axis=1).max())


def plain(report: NebReport) -> dict[str, Any]:
    """The numbers of a report by name and unit, for JSON."""
    return {
        "formula": hill_formula(report.images[0].numbers),
        "barrier_eV": report.barrier,
        "barrier_back_eV": report.barrier_back,
        "reaction_energy_eV": float(report.energies[-1]),
        "saddle_image": report.saddle,
        "converged": report.converged,
        "steps": report.n_steps,
        "max_force_eV_A": report.max_force,
        "distances_A": report.distances.tolist(),
        "energies_eV": report.energies.tolist(),
    }


def _contents(report: NebReport) -> list[tuple[str, str]]:
    """Names and contents of the files."""
    rows = ["image,distance_A,energy_eV"]
    rows += [f"{k},{x:.6f},{e:.9f}" for k, (x, e) in enumerate(zip(report.distances, report.energies, strict=True))]
    return [
        ("neb.csv", "\n".join(rows) + "\n"),
        ("neb.json", json.dumps(plain(report), indent=1) + "\n"),
        ("path.extxyz", "".join(map(frame_text, report.images))),
        ("saddle.extxyz", frame_text(report.images[report.saddle])),
    ]


class BatchedNEB(NEB):
    """ASE's NEB whose images are evaluated together.  All of ASE's methods, optimisers and tools work on it.

    Each image gets a separate calculator; after images have moved, the first call evaluates all of them together.

    Args:   images: at least three ase.Atoms, the ends relaxed; their calculators are replaced;
            potential: name, path of a potential file, or a Potential; device, dtype: as `eqff.load`, of a name or path;
            add: dispersion, e.g. "d3:PBE";
            options: of ase.mep.NEB (k, climb, method, remove_rotation_and_translation, ...); method "improvedtangent"
    Raises: ConfigError EQ1256 for images; PotentialError for the potential; GraphError and RunError, naming the image,
            when an image cannot be evaluated
    """

    def __init__(
        self,
        images: Sequence[Atoms],
        potential: str | Path | Potential,
        device: str = "cpu",
        dtype: str = "auto",
        add: str | None = None,
        **options: Any,
    ) -> None:
        images = list(images)
        if len(images) < 3:
            raise ConfigError(
                "EQ1256", f"images: {len(images)} are too few; give at least 3, two ends and one between them"
            )
        if len({id(image) for image in images}) < len(images):
            raise ConfigError("EQ1257", "images: one Atoms object stands in two places; use image.copy()")
        loaded = potential if isinstance(potential, Potential) else artifact.load(potential, device, dtype)
        super().__init__(images, **({"method": "improvedtangent"} | options))
        share(images, loaded, added_to(loaded, dispersed=add))
