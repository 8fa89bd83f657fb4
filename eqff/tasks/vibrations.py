"""Harmonic vibrations: frequencies, zero-point energy and normal modes from the analytic Hessian.

M^-1/2 H M^-1/2 v = omega^2 v for the free atoms; omega^2 < 0 is an imaginary frequency.
Rigid motions, which cost no energy (3 translations and, without periodic directions, 3 rotations, 2 of a linear
molecule; with fixed atoms only those that leave them in place), are identified by their shape, not by their frequency.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.io.jsonio import encode
from ase.vibrations import VibrationsData

from eqff.data.reading.structures import frame_text
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError
from eqff.tasks.relax import Progress, RelaxConfig, Relaxed, minimum
from eqff.tasks.results_folder import results_folder, write_texts

SAME_LINE = 1e-4  # width over length: a molecule below this is linear
AMPLITUDE, N_FRAMES = 0.3, 20  # Å of the atom that moves most, frames of one period
UNRELAXED = 0.01  # eV/Å; with larger forces frequencies are meaningless
Kind = Literal["vibration", "imaginary", "rigid"]


@dataclass(frozen=True, kw_only=True)
class VibrationsConfig:
    """Settings, and the output folder with frequencies.csv, vibrations.json (ASE), structure and modes."""

    relax: bool = True  # first, so that the forces vanish
    fmax: float = 1e-6  # eV/Å, of that relaxation; 1e-5 leaves rotations of nearly 1 cm-1
    steps: int = 1000  # of that relaxation, at most
    output: Path = Path("vib")
    modes: bool = True  # write a trajectory of every normal mode
    force: bool = False  # overwrite existing files

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        self.relaxation  # noqa: B018  checks fmax and steps

    @property
    def relaxation(self) -> RelaxConfig:
        return RelaxConfig(fmax=self.fmax, steps=self.steps)


class Mode(NamedTuple):
    """One normal mode."""

    frequency: float  # cm-1, negative where imaginary, as is usual in lists
    kind: Kind
    displacement: np.ndarray  # [n_atoms, 3] mass-weighted back to Cartesian, zero for fixed atoms


class VibrationsReport(NamedTuple):
    """Results of a calculation."""

    atoms: Atoms  # the structure the Hessian belongs to, with energy and forces
    relaxed: Relaxed | None  # course of the relaxation
    max_force: float  # eV/Å, of the free atoms
    data: VibrationsData
    modes: tuple[Mode, ...]  # by frequency, lowest first
    zero_point_energy: float  # eV, real vibrations only
    files: tuple[Path, ...]

    @property
    def vibrations(self) -> list[Mode]:
        return [mode for mode in self.modes if mode.kind != "rigid"]

    @property
    def rigid(self) -> list[Mode]:
        """Rigid motions: their frequencies should be 0."""
        return [mode for mode in self.modes if mode.kind == "rigid"]

    @property
    def n_imaginary(self) -> int:
        return sum(mode.kind == "imaginary" for mode in self.modes)


def run_vibrations(
    config: VibrationsConfig,
    atoms: Atoms,
    calculator: EqffCalculator,
    progress: Progress | None = None,
    progress_rows: Callable[[int], None] | None = None,
) -> VibrationsReport:
    """Relax, compute the Hessian and the modes and write them; the caller's atoms are not changed.

    Args:    config; atoms: FixAtoms is obeyed; calculator: float64 weights are needed for small frequencies;
             progress: after each step of the relaxation; progress_rows: with the number of rows of the Hessian done
    Returns: VibrationsReport
    Raises:  ConfigError EQ1250 constraints, EQ1251 files that exist, EQ1252 nothing is free, EQ1253 masses;
             ResourceError EQ6131 another process writes there; RunError EQ5322 when the relaxation does not converge;
             GraphError for an invalid structure
    """
    _check(config, atoms)
    with results_folder(config.output, config.force):
        return _run(config, atoms, calculator, progress, progress_rows)


def _run(
    config: VibrationsConfig,
    atoms: Atoms,
    calculator: EqffCalculator,
    progress: Progress | None,
    progress_rows: Callable[[int], None] | None,
) -> VibrationsReport:
    relaxed: Relaxed | None = None
    if config.relax:
        atoms, relaxed = minimum(config.relaxation, atoms, calculator, progress)
    else:
        atoms = atoms.copy()
        atoms.calc = calculator
    max_force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    free = _free_atoms(atoms)
    rows = calculator.get_hessian(atoms, free.tolist(), progress_rows)
    block = rows.reshape(len(free), 3, len(atoms), 3)[:, :, free, :]
    block = 0.5 * (block + block.transpose(2, 3, 0, 1))  # equal up to the rounding of the weights' dtype
    data = VibrationsData(atoms, block, indices=free)
    modes = normal_modes(data)
    zero_point = 0.5 * units.invcm * sum(mode.frequency for mode in modes if mode.kind == "vibration")
    report = VibrationsReport(atoms, relaxed, max_force, data, modes, zero_point, ())
    return report._replace(files=tuple(_write(config, report, calculator)))


def normal_modes(data: VibrationsData) -> tuple[Mode, ...]:
    """Every mode with its kind, lowest frequency first.

    A mode is rigid if it is one of the n that overlap most with the n rigid motions of the structure.
    """
    energies, displacements = data.get_energies_and_modes(all_atoms=True)
    frequencies = np.where(np.abs(energies.imag) > 0, -energies.imag, energies.real) / units.invcm
    atoms, free = data.get_atoms(), data.get_indices()
    roots = np.sqrt(atoms.get_masses()[free])[:, None]
    rigid = rigid_motions(atoms, free)
    vectors = (displacements[:, free] * roots).reshape(len(energies), -1)  # orthonormal rows
    overlap = ((vectors @ rigid.T) ** 2).sum(1)
    is_rigid = set(np.argsort(-overlap, kind="stable")[: len(rigid)].tolist())
    modes = []
    for k, frequency in enumerate(frequencies.tolist()):
        kind: Kind = "rigid" if k in is_rigid else "imaginary" if frequency < 0.0 else "vibration"
        modes.append(Mode(frequency, kind, displacements[k]))
    return tuple(sorted(modes, key=lambda mode: mode.frequency))


def rigid_motions(atoms: Atoms, free: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the translations and rotations that cost no energy and leave the other atoms in place.

    Args:    free [n_free] indices of atoms that may move
    Returns: [n_rigid, 3 n_free] mass-weighted
    """
    centre = atoms.positions - atoms.positions[free].mean(0)
    axes = np.eye(3)
    if atoms.pbc.any():  # a chain may still rotate about its axis
        axes = atoms.cell.array[atoms.pbc] / np.linalg.norm(atoms.cell.array[atoms.pbc], axis=1)[:, None]
        axes = axes if atoms.pbc.sum() == 1 else axes[:0]
    motions = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)] + [np.cross(axis, centre) for axis in axes]
    moves = np.array(motions).reshape(len(motions), len(atoms), 3)
    size = max(float(np.abs(centre).max()), 1.0)
    moves[3:] /= size  # comparable with translations
    fixed = np.setdiff1d(np.arange(len(atoms)), free)
    if len(fixed):  # combinations that vanish at the fixed atoms
        _, values, basis = np.linalg.svd(moves[:, fixed].reshape(len(moves), -1).T)
        values = np.concatenate([values, np.zeros(len(basis) - len(values))])
        moves = np.tensordot(basis[values < SAME_LINE * math.sqrt(len(fixed))], moves, axes=1)
    weighted = moves[:, free] * np.sqrt(atoms.get_masses()[free])[:, None]
    _, values, basis = np.linalg.svd(weighted.reshape(len(moves), 3 * len(free)), full_matrices=False)
    return basis[values > SAME_LINE * values.max(initial=0.0)]


def animate(atoms: Atoms, mode: Mode, amplitude: float = AMPLITUDE, n_frames: int = N_FRAMES) -> Iterator[Atoms]:
    """One period of a mode.

    Args: amplitude: Å, of the atom that moves most; n_frames: of the period
    """
    shape = mode.displacement / np.linalg.norm(mode.displacement, axis=1).max()
    for frame in range(n_frames):
        moved = atoms.copy()
        moved.positions += amplitude * math.sin(2.0 * math.pi * frame / n_frames) * shape
        moved.info |= {"frequency_cm-1": mode.frequency}
        yield moved


def _check(config: VibrationsConfig, atoms: Atoms) -> None:
    """Refuse options that would fail later, or silently give nonsense."""
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ConfigError(
                "EQ1250",
                f"structure: has {type(constraint).__name__}; remove it, since vibrations obey FixAtoms only",
            )
    free = _free_atoms(atoms)
    if len(atoms) and not len(free):
        raise ConfigError("EQ1252", "structure: all atoms are fixed, so none can vibrate; free at least one")
    massless = free[~(atoms.get_masses()[free] > 0)]
    if massless.size:
        raise ConfigError("EQ1253", f"structure: atom {massless[0]} has mass 0; give every atom a mass")


def _free_atoms(atoms: Atoms) -> np.ndarray:
    fixed = [index for constraint in atoms.constraints for index in constraint.get_indices()]
    return np.setdiff1d(np.arange(len(atoms)), fixed)


def _write(config: VibrationsConfig, report: VibrationsReport, calculator: Any) -> list[Path]:
    """Modes of an earlier calculation are deleted, so that two are never mixed."""
    for path in config.output.glob("modes/mode_[0-9]*.extxyz"):
        path.unlink()
    return write_texts(config.output, _contents(config, report), calculator)


def _contents(config: VibrationsConfig, report: VibrationsReport) -> Iterator[tuple[str, str]]:
    """Names and contents of the files."""
    yield "structure.extxyz", frame_text(report.atoms)
    yield "vibrations.json", encode(report.data)
    rows = ["mode,frequency_cm1,energy_meV,kind"]
    for number, mode in enumerate(report.modes):
        rows.append(f"{number},{mode.frequency:.6f},{mode.frequency * units.invcm * 1e3:.6f},{mode.kind}")
    yield "frequencies.csv", "\n".join(rows) + "\n"
    plain = report.atoms.copy()
    plain.info = {}
    width = len(str(len(report.modes) - 1))
    for number, mode in enumerate(report.modes):
        if config.modes and mode.kind != "rigid":
            yield f"modes/mode_{number:0{width}d}.extxyz", "".join(map(frame_text, animate(plain, mode)))
