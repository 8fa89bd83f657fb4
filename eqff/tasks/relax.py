"""Geometry optimisation: atoms, or atoms and cell, to forces below a limit, by ASE's optimisers.

Converged when the force on every atom that may move is below fmax; with the cell, when the gradients of the Frechet
filter are, too: (virial / n_atoms) with respect to the logarithm of the deformation.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io.trajectory import TrajectoryWriter
from ase.optimize import BFGS, FIRE, LBFGS

from eqff.data.reading.structures import EXTENDED_XYZ, clear_labels, clear_results, frame_text, lost_constraints
from eqff.errors import ConfigError, EqffError, RunError
from eqff.files import new_file
from eqff.graph import check_atoms
from eqff.locks import locked_in_new_folder

MAX_FORCE, MAX_GROWTH = 1e3, 10.0  # eV/Å, and factor of the start: forces beyond both mean a hole in the potential
OPTIMIZERS = {"bfgs": BFGS, "lbfgs": LBFGS, "fire": FIRE}
Optimizer = Literal["bfgs", "lbfgs", "fire"]


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """Settings; `output` gets the final structures, <output>_trajectory every step of every structure."""

    fmax: float = 0.01  # eV/Å
    optimizer: Optimizer = "bfgs"  # lbfgs costs less above about 200 atoms, but may diverge from a compressed crystal
    steps: int = 500  # at most, for each structure
    cell: bool = False  # relax the cell as well
    constant_volume: bool = False  # of the cell, its shape only
    output: Path = Path("relaxed.extxyz")
    keep_trajectory: bool = True
    force: bool = False  # overwrite existing files

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError("EQ1240", f"optimizer={self.optimizer!r} is unknown; choose from {', '.join(OPTIMIZERS)}")
        if not (self.fmax > 0.0 and math.isfinite(self.fmax)):
            raise ConfigError("EQ1241", f"fmax={self.fmax} eV/Å is no limit above 0; give e.g. 0.01")
        if self.constant_volume and not self.cell:
            raise ConfigError("EQ1248", "constant_volume: is about the cell; relax it, too (--cell)")
        if self.steps < 0:
            raise ConfigError("EQ1242", f"steps={self.steps}: expected a number >= 0; give 0 or more")
        if self.output.suffix not in (*EXTENDED_XYZ, ".traj"):
            raise ConfigError(
                "EQ1243",
                f"output={self.output}: expected a name ending in .extxyz, .xyz or .traj; `ase convert` makes others",
            )

    @property
    def trajectory(self) -> Path | None:
        """File with every step, in the format of the output."""
        name = f"{self.output.stem}_trajectory{self.output.suffix}"
        return self.output.with_name(name) if self.keep_trajectory else None


class RelaxStep(NamedTuple):
    """A structure during relaxation."""

    structure: int
    step: int
    energy: float  # eV
    max_force: float  # eV/Å, largest gradient: what is compared with fmax


class Relaxed(NamedTuple):
    """How one structure ended."""

    structure: int  # its number in the input
    formula: str
    n_atoms: int
    converged: bool
    problem: str  # the error that stopped it; "" without error
    n_steps: int
    n_force_calls: int  # evaluations of the potential
    start_energy: float  # eV; NaN, as the next three, if it could not be evaluated once
    energy: float  # eV
    energy_change: float  # eV, end minus start
    max_force: float  # eV/Å, as in RelaxStep
    max_stress_gpa: float | None  # largest remaining component; None unless the cell was relaxed, as the next four
    start_cell: tuple[float, ...] | None  # a, b, c in Å, alpha, beta, gamma in degrees
    cell: tuple[float, ...] | None
    start_volume: float | None  # Å^3
    volume: float | None  # Å^3
    course: tuple[RelaxStep, ...]


class RelaxReport(NamedTuple):
    """Results of a run."""

    results: tuple[Relaxed, ...]
    wall_seconds: float
    output: Path
    trajectory: Path | None

    @property
    def n_converged(self) -> int:
        return sum(result.converged for result in self.results)


Progress = Callable[[RelaxStep], None]


def run_relax(
    config: RelaxConfig, structures: Sequence[Atoms], calculator: Any, progress: Progress | None = None
) -> RelaxReport:
    """Relax structures one after the other and write them; the caller's atoms are not changed.

    A structure that cannot be finished does not stop the others: its last geometry is written with
    relax_converged=False (and relax_problem) in its info, as is that of an interrupted run.

    Args:    config; structures: constraints are kept and obeyed; calculator: any ASE calculator (stress for the cell);
             progress: called after every step
    Returns: RelaxReport, one result for each structure
    Raises:  ConfigError for options that do not fit the structures, and files that exist; GraphError for structures
             that are invalid; ResourceError EQ6131 while another process writes the output; the error of the first
             structure if no structure could be evaluated: nothing is written
    """
    started = time.perf_counter()
    paths = [path for path in (config.output, config.trajectory) if path is not None]
    _refuse_existing(config, paths)
    for index, atoms in enumerate(structures):
        _check(config, atoms, f"structure {index}")
    walks: list[_Walk] = []
    first_error: EqffError | None = None
    with _scipy_unnoticed(), ExitStack() as files:
        for path in paths:
            files.enter_context(locked_in_new_folder(path))
        _refuse_existing(config, paths)  # again: another run may have ended meanwhile
        final = files.enter_context(_FrameFile(config.output))
        every = None if config.trajectory is None else files.enter_context(_FrameFile(config.trajectory))
        for index, atoms in enumerate(structures):
            walk = _Walk(config, atoms, calculator, index)
            walks.append(walk)
            try:
                for frame in walk.run():
                    final.keep = True
                    if every is not None:
                        every.keep = True
                        every.write(frame)
                    if progress is not None:
                        progress(walk.course[-1])
            except EqffError as error:
                walk.problem = str(error)
                first_error = first_error or error
            finally:  # Ctrl-C, too
                final.write(walk.last)
        if first_error is not None and not any(walk.course for walk in walks):
            raise first_error
    results = tuple(walk.result() for walk in walks)
    return RelaxReport(results, time.perf_counter() - started, config.output, config.trajectory)


def relax(
    config: RelaxConfig, atoms: Atoms, calculator: Any, progress: Progress | None = None
) -> tuple[Atoms, Relaxed]:
    """One structure, without files: the relaxed copy, with its energy and forces, and how it ended.

    Raises: as `run_relax`, and whatever stops the optimisation
    """
    _check(config, atoms, "structure")
    walk = _Walk(config, atoms, calculator, index=0)
    with _scipy_unnoticed():
        for _ in walk.run():
            if progress is not None:
                progress(walk.course[-1])
    return walk.last, walk.result()


def minimum(
    config: RelaxConfig, atoms: Atoms, calculator: Any, progress: Progress | None = None
) -> tuple[Atoms, Relaxed]:
    """`relax` to the end: the relaxed copy without notes about its course, and how it ended.

    Raises: RunError EQ5322 if it does not converge; as `relax`
    """
    end, course = relax(config, atoms, calculator, progress)
    if not course.converged:
        raise RunError(
            "EQ5322",
            f"after {course.n_steps} steps the largest force is {course.max_force:.2g} eV/Å, above "
            f"fmax={config.fmax:g}: not relaxed; allow more --steps, a larger --fmax (float32 weights reach about "
            "1e-4), or relax it yourself and use --no-relax",
        )
    for name in [name for name in end.info if name.startswith("relax_")]:
        del end.info[name]
    return end, course


@contextmanager
def _scipy_unnoticed() -> Iterator[None]:
    """Ignore SciPy's warning at every step that the cell filter's matrix logarithm is only good to 1e-12.

    The random numbers that it draws are put back.
    """
    state = np.random.get_state()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
        try:
            yield
        finally:
            np.random.set_state(state)


class _Walk:
    """The relaxation of one structure; `last` is the last good frame, with its results."""

    def __init__(self, config: RelaxConfig, atoms: Atoms, calculator: Any, index: int) -> None:
        self.config, self.index = config, index
        self.course: list[RelaxStep] = []
        self.converged, self.problem = False, ""
        self.stress: np.ndarray | None = None
        self.atoms = atoms.copy()
        clear_results(self.atoms)
        clear_labels(self.atoms)
        self._calculator = calculator
        self._start_cell = atoms.cell.copy()
        self._good = self.atoms.copy()

    def run(self) -> Iterator[Atoms]:
        """Every good frame, including the start."""
        self.atoms.calc = self._calculator
        target = (
            FrechetCellFilter(self.atoms, constant_volume=self.config.constant_volume)
            if self.config.cell
            else self.atoms
        )
        optimizer = OPTIMIZERS[self.config.optimizer](target, logfile=None)
        for converged in optimizer.irun(fmax=self.config.fmax, steps=self.config.steps):
            gradient = optimizer.optimizable.get_gradient()
            size = float(optimizer.optimizable.gradient_norm(gradient))
            self._check_course(size)
            results = {"energy": float(self.atoms.get_potential_energy())}
            results["forces"] = self.atoms.get_forces(apply_constraint=False)
            if self.config.cell:
                results["stress"] = self.stress = self.atoms.get_stress(apply_constraint=False)
            self._good = self.atoms.copy()
            self._good.calc = SinglePointCalculator(self._good, **results)
            self.course.append(RelaxStep(self.index, optimizer.nsteps, results["energy"], size))
            self.converged = bool(converged)
            yield self.last

    def _check_course(self, size: float) -> None:
        """Raises: RunError EQ5321 when forces grow beyond anything physical."""
        if self.course and size > max(MAX_FORCE, MAX_GROWTH * self.course[0].max_force):
            forces = np.linalg.norm(self.atoms.get_forces(), axis=1)
            raise RunError(
                "EQ5321",
                f"step {self.course[-1].step + 1}: the force on atom {forces.argmax()} is {size:.3g} eV/Å: the "
                "structure has left what the potential knows; start nearer to a minimum, or try --optimizer fire",
            )

    @property
    def last(self) -> Atoms:
        frame = self._good.copy()
        frame.calc = self._good.calc
        frame.info |= {"relax_structure": self.index, "relax_converged": self.converged}
        if self.course:
            frame.info |= {"relax_step": self.course[-1].step, "relax_fmax": self.course[-1].max_force}
        if self.problem:
            frame.info["relax_problem"] = self.problem
        return frame

    def result(self) -> Relaxed:
        start, end = (self.course[0], self.course[-1]) if self.course else (None, None)
        relaxed = self.config.cell and bool(self.course)
        return Relaxed(
            structure=self.index,
            formula=self.atoms.get_chemical_formula(),
            n_atoms=len(self.atoms),
            converged=self.converged and not self.problem,
            problem=self.problem,
            n_steps=end.step if end else 0,
            n_force_calls=len(self.course),
            start_energy=start.energy if start else math.nan,
            energy=end.energy if end else math.nan,
            energy_change=end.energy - start.energy if start and end else math.nan,
            max_force=end.max_force if end else math.nan,
            max_stress_gpa=None if self.stress is None else float(np.abs(self.stress).max() / units.GPa),
            start_cell=tuple(self._start_cell.cellpar().tolist()) if relaxed else None,
            cell=tuple(self._good.cell.cellpar().tolist()) if relaxed else None,
            start_volume=float(self._start_cell.volume) if relaxed else None,
            volume=float(self._good.cell.volume) if relaxed else None,
            course=tuple(self.course),
        )


class _FrameFile:
    """Frames written one by one to a temporary file, which gets its name at the end if it is worth keeping."""

    def __init__(self, path: Path) -> None:
        self.path, self.keep = path, False

    def __enter__(self) -> "_FrameFile":
        self._new = new_file(self.path, force=True)
        temporary = self._new.__enter__()
        self._trajectory = TrajectoryWriter(str(temporary), "w") if self.path.suffix == ".traj" else None
        self._text = temporary.open("w", encoding="utf-8") if self._trajectory is None else None
        return self

    def write(self, frame: Atoms) -> None:
        if self._trajectory is not None:
            self._trajectory.write(frame)
        if self._text is not None:
            self._text.write(frame_text(frame))
            self._text.flush()

    def __exit__(self, *exception: object) -> None:
        try:
            for file in (self._trajectory, self._text):
                if file is not None:
                    file.close()
        except OSError as error:  # a full disk
            if not self._new.__exit__(type(error), error, None):
                raise
        if self.keep:
            self._new.__exit__(None, None, None)
        else:
            nothing = RuntimeError("no frame is worth keeping")
            self._new.__exit__(RuntimeError, nothing, None)


def _refuse_existing(config: RelaxConfig, paths: Sequence[Path]) -> None:
    for path in paths:
        if (path.exists() or path.is_symlink()) and not config.force:
            raise ConfigError("EQ1244", f"{path} exists; choose another name or overwrite it with --force")


def _check(config: RelaxConfig, atoms: Atoms, where: str) -> None:
    """Refuse options that would fail later, or silently give nonsense."""
    check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, where)
    if config.cell and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            "EQ1245",
            f"{where}: pbc={atoms.pbc.tolist()}, cell rank {atoms.cell.rank}; leave out --cell, or set pbc and a cell "
            "that is periodic in three directions",
        )
    lost = lost_constraints(atoms)
    if lost and config.output.suffix in EXTENDED_XYZ:
        raise ConfigError(
            "EQ1246", f"{where}: {config.output.suffix} cannot hold {lost[0]}; write to a file that ends in .traj"
        )
