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
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.together import share
from eqff.errors import ConfigError, EqffError, ResourceError, RunError
from eqff.files import new_file
from eqff.graph import check_atoms
from eqff.locks import locked_in_new_folder

MAX_FORCE, MAX_GROWTH = 1e3, 10.0  # eV/Å, and factor of the start: forces beyond both mean a hole in the potential
POOL = 64  # structures that relax side by side
SYMMETRY = 0.01  # Å, within which atoms are symmetric
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
    fix_symmetry: bool = False  # keep the space group of the start
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
    """Relax structures and write them in their order; the caller's atoms are not changed.

    With an EqffCalculator, up to POOL structures relax side by side, and those that have moved are evaluated together:
    the same steps as one after the other, but for rounding.

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
        walks += [_Walk(config, atoms, calculator, index) for index, atoms in enumerate(structures)]
        written = _InOrder(walks, final, every)
        try:
            for walk, error in _side_by_side(walks, calculator):
                if error is not None:
                    walk.problem = str(error)
                    first_error = first_error or error
                written.update(walk)
                if error is None and progress is not None:
                    progress(walk.course[-1])
        finally:  # Ctrl-C, too
            written.close()
        if first_error is not None and not any(walk.course for walk in walks):
            raise first_error
    results = tuple(walk.result() for walk in walks)
    return RelaxReport(results, time.perf_counter() - started, config.output, config.trajectory)


def _side_by_side(walks: Sequence["_Walk"], calculator: Any) -> Iterator[tuple["_Walk", EqffError | None]]:
    """Take steps of the walks in turn; every walk after each of its frames, and once with the error that stopped it."""
    size = POOL if isinstance(calculator, EqffCalculator) else 1
    for start in range(0, len(walks), size):
        pool = walks[start : start + size]
        if len(pool) > 1:
            share([walk.atoms for walk in pool], calculator.potential, calculator.baseline, "structure")
        running = [(walk, walk.run()) for walk in pool]
        while running:
            ready = []
            for walk, frames in running:  # to the places where they need to be evaluated
                try:
                    next(frames)
                    ready.append((walk, frames))
                except EqffError as error:
                    yield walk.ended(), error
            running = []
            for walk, frames in ready:
                try:
                    more = next(frames)
                except EqffError as error:
                    yield walk.ended(), error
                    continue
                if more:
                    running.append((walk, frames))
                else:
                    walk.ended()
                yield walk, None


class _InOrder:
    """Writes frames of structures that relax side by side as if they did one after the other."""

    def __init__(self, walks: Sequence["_Walk"], final: "_FrameFile", every: "_FrameFile | None") -> None:
        self.walks, self.final, self.every = walks, final, every
        self.waiting: dict[int, list[Atoms]] = {}  # frames of structures whose turn has not come
        self.turn = 0

    def update(self, walk: "_Walk") -> None:
        """Keep the last frame of a walk, and write what can be written."""
        if not walk.problem:
            self.final.keep = True
            if self.every is not None:
                self.every.keep = True
                self.waiting.setdefault(walk.index, []).append(walk.last)
        while self.turn < len(self.walks):
            self._write_course(self.turn)
            if not self.walks[self.turn].done:
                break
            self.final.write(self.walks[self.turn].last)
            self.turn += 1

    def _write_course(self, number: int) -> None:
        for frame in self.waiting.pop(number, []):
            if self.every is not None:
                self.every.write(frame)

    def close(self) -> None:
        """Write what is left of an interrupted run: the structures that have begun."""
        for number in range(self.turn, len(self.walks)):
            self._write_course(number)
            if self.walks[number].course or self.walks[number].problem:
                self.final.write(self.walks[number].last)


def relax(
    config: RelaxConfig, atoms: Atoms, calculator: Any, progress: Progress | None = None
) -> tuple[Atoms, Relaxed]:
    """One structure, without files: the relaxed copy, with its energy and forces, and how it ended.

    Raises: as `run_relax`, and whatever stops the optimisation
    """
    _check(config, atoms, "structure")
    walk = _Walk(config, atoms, calculator, index=0)
    with _scipy_unnoticed():
        for more in walk.run():
            if more is not None and progress is not None:
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
        self._constraints = self._good.constraints
        self.done = False

    def run(self) -> Iterator[bool | None]:
        """Step by step: None where the atoms have moved, then, after their evaluation, whether steps are to follow."""
        if self.atoms.calc is None:
            self.atoms.calc = self._calculator
        elif isinstance(self._calculator, EqffCalculator):
            self._calculator.check_charge_and_spin(self.atoms)
        if self.config.fix_symmetry:
            self.atoms.set_constraint([*self.atoms.constraints, _symmetry(self.atoms)])
        target = (
            FrechetCellFilter(self.atoms, constant_volume=self.config.constant_volume)
            if self.config.cell
            else self.atoms
        )
        optimizer = OPTIMIZERS[self.config.optimizer](target, logfile=None)
        optimizer.fmax = self.config.fmax
        while True:
            yield None
            gradient = optimizer.optimizable.get_gradient()
            self._record(optimizer, gradient)
            more = not self.converged and optimizer.nsteps < self.config.steps
            yield more
            if not more:
                return
            optimizer.step()
            optimizer.nsteps += 1

    def _record(self, optimizer: Any, gradient: np.ndarray) -> None:
        size = float(optimizer.optimizable.gradient_norm(gradient))
        self._check_course(size)
        results = {"energy": float(self.atoms.get_potential_energy())}
        results["forces"] = self.atoms.get_forces(apply_constraint=False)
        if self.config.cell:
            results["stress"] = self.stress = self.atoms.get_stress(apply_constraint=False)
        self._good = self.atoms.copy()
        self._good.set_constraint(self._constraints)
        self._good.calc = SinglePointCalculator(self._good, **results)
        self.course.append(RelaxStep(self.index, optimizer.nsteps, results["energy"], size))
        self.converged = bool(optimizer.gradient_converged(gradient))

    def ended(self) -> "_Walk":
        """Mark the end: nobody asks for this structure any more."""
        self.done = True
        if hasattr(self.atoms.calc, "wanted"):
            self.atoms.calc.wanted = False
        return self

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


def _symmetry(atoms: Atoms) -> Any:
    """ASE's constraint that keeps the space group.  Raises: ResourceError EQ6032 without spglib"""
    from ase.constraints import FixSymmetry

    try:
        return FixSymmetry(atoms, symprec=SYMMETRY)
    except ImportError as error:
        raise ResourceError("EQ6032", "fix_symmetry needs spglib; pip install 'eqff[crystals]'") from error


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
    if config.fix_symmetry and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            "EQ1237", f"{where}: pbc={atoms.pbc.tolist()} has no space group to keep; leave out --fix-symmetry"
        )
    lost = lost_constraints(atoms)
    if lost and config.output.suffix in EXTENDED_XYZ:
        raise ConfigError(
            "EQ1246", f"{where}: {config.output.suffix} cannot hold {lost[0]}; write to a file that ends in .traj"
        )
