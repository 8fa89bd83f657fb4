"""Harmonic phonons of a crystal by finite displacements: bands along the standard path, density of states, free energy,
entropy and heat capacity.

phonopy chooses the displacements and makes force constants of the forces; seekpath chooses the path of the bands.
Long-range polarisation is not added, so that LO-TO splitting of polar crystals is missing at the zone centre.

Source: A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023); paths: Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017).
"""

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units

from eqff.data.reading.structures import frame_text
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.together import share
from eqff.errors import ConfigError, ResourceError, RunError
from eqff.files import new_file
from eqff.tasks.crystal import CrystalConfig, Progress, prepare
from eqff.tasks.results_folder import results_folder, write_texts

IMAGINARY = 0.05  # THz; a frequency above minus this value is rounding near the zone centre
BAND_POINTS = 101  # along the longest segment of the path
SYMMETRY = 1e-4  # Å, within which atoms are symmetric
KJ_PER_MOL = units.kJ / units.mol  # eV


@dataclass(frozen=True, kw_only=True)
class PhononsConfig(CrystalConfig):
    """Settings; the folder gets bands.csv, dos.csv, thermal.csv, phonons.json, phonopy_params.yaml and the crystal."""

    supercell: tuple[int, int, int] | None = None  # None: the smallest that is min_width wide in all directions
    min_width: float = 12.0  # Å, of the supercell
    displacement: float = 0.01  # Å
    mesh: float = 100.0  # Å, phonopy's length: q-points are 2 pi / mesh apart
    max_temperature: float = 1000.0  # K
    fmax: float = 1e-4  # eV/Å
    output: Path = Path("phonons")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.supercell is not None and min(self.supercell) < 1:
            raise ConfigError("EQ1276", f"supercell={self.supercell}: expected three numbers above 0; give e.g. 3,3,3")
        if not (0.0 < self.min_width <= 100.0 and 0.0 < self.displacement <= 0.5 and 1.0 <= self.mesh <= 1000.0):
            raise ConfigError(
                "EQ1277",
                f"min_width={self.min_width}, displacement={self.displacement}, mesh={self.mesh}: expected up to "
                "100 Å, up to 0.5 Å, and 1 to 1000 Å; leave out what you need not change",
            )
        if not 10.0 <= self.max_temperature <= 1e5:
            raise ConfigError("EQ1278", f"max_temperature={self.max_temperature} K: expected 10 K or more; give 1000")


class Band(NamedTuple):
    """One segment of the path."""

    labels: tuple[str, str]  # of its ends
    qpoints: np.ndarray  # [n, 3] in units of reciprocal vectors of the primitive cell
    distances: np.ndarray  # [n] 1/Å, along the whole path
    frequencies: np.ndarray  # [n, n_modes] THz, negative where imaginary


class PhononsReport(NamedTuple):
    """Results; thermal numbers belong to one atom, or one mole of atoms."""

    atoms: Atoms  # the crystal
    supercell: tuple[int, int, int]
    n_displacements: int
    n_primitive: int  # atoms of the primitive cell
    bands: tuple[Band, ...]
    dos_frequencies: np.ndarray  # [n] THz
    dos: np.ndarray  # [n] states per THz and atom
    temperatures: np.ndarray  # [n] K
    free_energies: np.ndarray  # [n] eV/atom, with the zero-point energy
    entropies: np.ndarray  # [n] J/(K mol)
    heat_capacities: np.ndarray  # [n] J/(K mol), at constant volume
    at_300_kelvin: tuple[float, float, float]  # free energy, entropy, heat capacity, in the units above
    zero_point_energy: float  # eV/atom
    imaginary_share: float  # of the modes on the mesh
    lowest: float  # THz, on mesh and bands; negative where imaginary
    lowest_qpoint: tuple[float, float, float]
    force_drift: float  # eV/Å, largest net force of a supercell
    files: tuple[Path, ...]

    @property
    def stable(self) -> bool:
        return self.lowest > -IMAGINARY


def run_phonons(
    config: PhononsConfig, atoms: Atoms, calculator: Any, progress: Progress = lambda text: None
) -> PhononsReport:
    """Relax, displace, and compute phonons; the caller's atoms are not changed.

    Args:    config; atoms: a crystal; calculator: any ASE calculator; progress
    Returns: PhononsReport
    Raises:  as `crystal.prepare` and `results_folder`; ResourceError EQ6031 without phonopy or seekpath;
             ConfigError EQ1280 for isotopes beside each other, EQ1281 a left-handed cell; RunError EQ5333 for atoms
             without interaction
    """
    with results_folder(config.output, config.force):
        return _run(config, atoms, calculator, progress)


def _run(config: PhononsConfig, atoms: Atoms, calculator: Any, progress: Progress) -> PhononsReport:
    phonopy = _phonopy()
    start = prepare(config, atoms, calculator, progress)
    _check_masses(start)
    supercell = config.supercell or repeats(start, config.min_width)
    cell = phonopy.structure.atoms.PhonopyAtoms(
        numbers=start.numbers, cell=start.cell.array, positions=start.positions, masses=start.get_masses()
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "primitive_matrix defaulted", UserWarning)  # as in phonopy 4, on purpose
        phonons = phonopy.Phonopy(cell, np.diag(supercell), symprec=SYMMETRY)
    phonons.generate_displacements(distance=config.displacement)
    moved = phonons.supercells_with_displacements
    displaced = [Atoms(one.numbers, one.positions, cell=one.cell, pbc=True, calculator=calculator) for one in moved]
    if isinstance(calculator, EqffCalculator):
        share(displaced, calculator.potential, calculator.baseline, "displacement")
    forces = []
    for number, atoms in enumerate(displaced, 1):
        progress(f"displacement {number} of {len(moved)}, {len(atoms)} atoms")
        forces.append(atoms.get_forces())
    drift = max(float(np.abs(f.sum(axis=0)).max()) for f in forces)
    phonons.forces = [f - f.mean(axis=0) for f in forces]
    phonons.produce_force_constants(show_drift=False)
    phonons.symmetrize_force_constants(show_drift=False)
    progress("bands, density of states and free energy")
    report = _analyse(config, phonons, start, supercell, drift)
    folder = config.output
    files = write_texts(folder, _contents(report), calculator)
    parameters = folder / "phonopy_params.yaml"
    with new_file(parameters, force=True) as temporary:
        phonons.save(temporary, settings={"force_sets": True, "displacements": True})
    return report._replace(files=(*files, parameters))


def _check_masses(atoms: Atoms) -> None:
    """Phonopy takes atoms of an element for equal.  Raises: ConfigError EQ1280, EQ1281"""
    for number in set(atoms.numbers.tolist()):
        masses = atoms.get_masses()[atoms.numbers == number]
        if np.ptp(masses) > 1e-6:
            raise ConfigError(
                "EQ1280",
                f"structure: atoms of Z={number} have masses of {masses.min():g} to {masses.max():g} u, and phonons "
                "cannot tell them apart; give all atoms of an element one mass",
            )
    if np.linalg.det(atoms.cell.array) < 0.0:
        raise ConfigError("EQ1281", "structure: its lattice vectors are left-handed; exchange two of them")


def repeats(atoms: Atoms, width: float) -> tuple[int, int, int]:
    """The smallest supercell whose opposite faces are all `width` Å apart or more."""
    distances = 1.0 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    a, b, c = (max(1, math.ceil(width / distance - 1e-9)) for distance in distances)
    return a, b, c


def plain(report: PhononsReport) -> dict[str, Any]:
    """The numbers of a report by name and unit, for JSON; curves are in the files."""
    free, entropy, capacity = report.at_300_kelvin
    return {
        "formula": report.atoms.get_chemical_formula(),
        "supercell": list(report.supercell),
        "n_displacements": report.n_displacements,
        "n_atoms_primitive": report.n_primitive,
        "stable": report.stable,
        "lowest_frequency_THz": report.lowest,
        "lowest_qpoint": list(report.lowest_qpoint),
        "imaginary_share": report.imaginary_share,
        "zone_centre_THz": _zone_centre(report),
        "highest_frequency_THz": float(max(band.frequencies.max() for band in report.bands)),
        "zero_point_energy_eV_atom": report.zero_point_energy,
        "free_energy_300K_eV_atom": free,
        "entropy_300K_J_K_mol": entropy,
        "heat_capacity_300K_J_K_mol": capacity,
        "force_drift_eV_A": report.force_drift,
    }


def _analyse(
    config: PhononsConfig, phonons: Any, start: Atoms, supercell: tuple[int, int, int], drift: float
) -> PhononsReport:
    n_primitive = len(phonons.primitive)
    bands = tuple(_bands(phonons))
    phonons.run_mesh(config.mesh)
    mesh = phonons.mesh
    if np.ptp(mesh.frequencies) < IMAGINARY:
        raise RunError(
            "EQ5333",
            f"supercell={supercell}: all frequencies are {mesh.frequencies.max():.3g} THz, so its atoms have no "
            "neighbours, or only images of themselves; take a larger --supercell",
        )
    share = float((mesh.weights[:, None] * (mesh.frequencies < -IMAGINARY)).sum())
    share /= float(mesh.weights.sum()) * mesh.frequencies.shape[1]
    lowest, qpoint = min(
        [(float(f.min()), q) for f, q in zip(mesh.frequencies, mesh.qpoints, strict=True)]
        + [(float(f.min()), q) for band in bands for f, q in zip(band.frequencies, band.qpoints, strict=True)],
        key=lambda row: row[0],
    )
    phonons.run_total_dos()
    phonons.run_thermal_properties(temperatures=[300.0], cutoff_frequency=IMAGINARY)
    at_300 = phonons.thermal_properties
    step = max(10.0, config.max_temperature / 200.0)
    phonons.run_thermal_properties(t_min=0.0, t_max=config.max_temperature, t_step=step, cutoff_frequency=IMAGINARY)
    thermal = phonons.thermal_properties
    return PhononsReport(
        start,
        supercell,
        len(phonons.supercells_with_displacements),
        n_primitive,
        bands,
        np.asarray(phonons.total_dos.frequency_points),
        np.asarray(phonons.total_dos.dos) / n_primitive,
        np.asarray(thermal.temperatures),
        np.asarray(thermal.free_energy) * KJ_PER_MOL / n_primitive,
        np.asarray(thermal.entropy) / n_primitive,
        np.asarray(thermal.heat_capacity) / n_primitive,
        (
            float(at_300.free_energy[0]) * KJ_PER_MOL / n_primitive,
            float(at_300.entropy[0]) / n_primitive,
            float(at_300.heat_capacity[0]) / n_primitive,
        ),
        float(thermal.zero_point_energy) * KJ_PER_MOL / n_primitive,
        share,
        lowest,
        (float(qpoint[0]), float(qpoint[1]), float(qpoint[2])),
        drift,
        (),
    )


def _bands(phonons: Any) -> Iterator[Band]:
    """Along the path that seekpath proposes for the primitive cell."""
    from phonopy.phonon.band_structure import get_band_qpoints_by_seekpath

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of spglib, through seekpath
        paths, labels, connected = get_band_qpoints_by_seekpath(phonons.primitive, BAND_POINTS, is_const_interval=True)
    phonons.run_band_structure(paths)
    structure = phonons.band_structure
    names = iter(_readable(label) for label in labels)
    end = ""
    for k, (qpoints, distances, frequencies) in enumerate(
        zip(structure.qpoints, structure.distances, structure.frequencies, strict=True)
    ):
        begin = end if k and connected[k - 1] else next(names)
        end = next(names)
        yield Band((begin, end), np.asarray(qpoints), np.asarray(distances), np.asarray(frequencies))


def _readable(label: str) -> str:
    return label.strip("$").replace("\\Gamma", "Γ").replace("\\mathrm{", "").replace("}", "").replace("GAMMA", "Γ")


def _zone_centre(report: PhononsReport) -> list[float]:
    """Frequencies at q = 0, THz."""
    for band in report.bands:
        for qpoint, frequencies in zip(band.qpoints, band.frequencies, strict=True):
            if not qpoint.any():
                return [float(f) for f in frequencies]
    return []


def _phonopy() -> Any:
    """Raises: ResourceError EQ6031"""
    try:
        import phonopy
        import phonopy.structure.atoms
        import seekpath  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "EQ6031", f"phonons need {error.name}; install it with `pip install 'eqff[crystals]'`"
        ) from error
    return phonopy


def _contents(report: PhononsReport) -> list[tuple[str, str]]:
    """Names and contents of the files."""
    n_modes = 3 * report.n_primitive
    bands = [",".join(["segment", "distance_1_A", "q1", "q2", "q3", *(f"mode_{k}_THz" for k in range(n_modes))])]
    for band in report.bands:
        for qpoint, distance, frequencies in zip(band.qpoints, band.distances, band.frequencies, strict=True):
            numbers = ",".join(f"{x:.6f}" for x in (distance, *qpoint, *frequencies))
            bands.append(f"{'-'.join(band.labels)},{numbers}")
    dos = ["frequency_THz,states_per_THz_atom"]
    dos += [f"{f:.6f},{d:.6f}" for f, d in zip(report.dos_frequencies, report.dos, strict=True)]
    thermal = ["temperature_K,free_energy_eV_atom,entropy_J_K_mol,heat_capacity_J_K_mol"]
    columns = (report.temperatures, report.free_energies, report.entropies, report.heat_capacities)
    thermal += [f"{t:.1f},{f:.9f},{s:.6f},{c:.6f}" for t, f, s, c in zip(*columns, strict=True)]
    return [
        ("bands.csv", "\n".join(bands) + "\n"),
        ("dos.csv", "\n".join(dos) + "\n"),
        ("thermal.csv", "\n".join(thermal) + "\n"),
        ("phonons.json", json.dumps(plain(report), indent=1) + "\n"),
        ("structure.extxyz", frame_text(report.atoms)),
    ]
