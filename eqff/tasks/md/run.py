"""The loop of a simulation (step, check, write) and its start, from a structure or from a checkpoint."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from eqff.errors import ConfigError, EqffError, ResourceError, RunError
from eqff.graph import check_atoms
from eqff.locks import locked_in_new_folder
from eqff.tasks.md import checkpoint
from eqff.tasks.md.checkpoint import Checkpoint
from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.guard import Guard, Moment, trained_distance
from eqff.tasks.md.integrators import CONSERVED, get_state, make_integrator, set_state
from eqff.tasks.md.observables import Observables
from eqff.tasks.md.postponed import Postponed
from eqff.tasks.md.report import LOG_HEADER, SAMPLE_TYPE, MDReport, MDSample, log_row, make_report, read_log
from eqff.tasks.md.trajectory import File, TextTrajectory, disk_errors, open_log, open_trajectory
from eqff.tasks.md.velocities import n_degrees_of_freedom, set_momenta


def run_md(
    config: MDConfig,
    atoms: Atoms,
    calculator: Any,
    progress: Callable[[MDSample], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> MDReport:
    """Run molecular dynamics; the caller's atoms are not changed.

    Args:    config; atoms: starting structure; calculator: any ASE calculator (stress for npt);
             progress: called after every step; announce: called once with the limits of the guard
    Returns: MDReport
    Raises:  GraphError for a structure that cannot be simulated; ConfigError for options that do not fit it, files
             that exist, or a run that cannot be continued; ResourceError for files that cannot be written; RunError
             when the guard stops the run, naming step, atoms and the files with the last good and the offending frame;
             ResourceError EQ6131 while another process writes these files.
             Ctrl-C and SIGTERM end the run after the current step, with a checkpoint of it and its frame at the end of
             the trajectory; a second signal ends it at once
    """
    _check(config, atoms)
    with np.errstate(all="ignore"), _only_writer(config):  # the guard detects overflows
        config.refuse_existing()  # again: another run may have ended meanwhile
        simulation = _Simulation(config, atoms, calculator)
        if announce is not None:
            announce(str(simulation.guard))
        return simulation.run(progress)


class _Simulation:
    """One run: its state, its files, and its observables."""

    def __init__(self, config: MDConfig, atoms: Atoms, calculator: Any) -> None:
        self.started = time.perf_counter()
        self.config, self.atoms, self.start_cell = config, atoms.copy(), atoms.cell.array.copy()
        self.options = checkpoint.fingerprint(config, self.atoms, calculator)
        self.saved = checkpoint.load(config.checkpoint, self.options) if config.resume else None
        if self.saved is not None and self.saved.step > config.steps:
            raise ConfigError(
                "EQ1265", f"steps={config.steps}: the run to resume is already at {self.saved.step}; give more steps"
            )
        self.atoms.calc = calculator
        self.rng = np.random.default_rng(config.seed)
        self.n_free = _n_free(config, atoms)
        self.rows_interval = config.rows_interval if self.saved is None else self.saved.rows_interval
        self.observables = Observables(self.atoms, config.timestep)
        if not config.keep_momenta:
            set_momenta(self.atoms, config.temperature, self.rng, self.n_free)
        self.guard = make_guard(config, atoms, calculator)
        if self.saved is not None:
            self._restore(self.saved)
        self.first_step = 0 if self.saved is None else self.saved.step
        self._begin()

    def _restore(self, saved: Checkpoint) -> None:
        self.atoms.set_cell(saved.cell, scale_atoms=False)
        self.atoms.positions[:] = saved.positions
        self.atoms.arrays["momenta"][:] = saved.momenta
        self.rng.bit_generator.state = saved.rng
        self.observables.restore(saved.observables)

    def _begin(self) -> None:
        """First forces, integrator, and a check of the structure, before any file is touched."""
        try:
            self.atoms.get_forces()
            self.moment = self._look(self.first_step)
            self.dynamics = make_integrator(self.config, self.atoms, self.rng)
            if self.saved is not None:
                set_state(self.config.integrator, self.dynamics, self.saved.integrator, self.saved.step)
                self.guard.restore(self.saved.first, self.saved.before, self.saved.max_force)
            self.sample = self._judge(self.moment)
        except EqffError as error:
            if not isinstance(error, RunError) and error.id != "EQ4161":
                raise
            raise RunError(
                error.id, f"step {self.first_step}: {error.message}; repair or relax the starting structure"
            ) from error

    def run(self, progress: Callable[[MDSample], None] | None) -> MDReport:
        config, saved = self.config, self.saved
        n_rows = config.steps // self.rows_interval + 2
        samples, n_samples = np.zeros(n_rows, dtype=SAMPLE_TYPE), 0
        if saved is not None:
            samples = read_log(config.log, saved.log_mark, n_rows) if config.log.is_file() else samples
            n_samples = int((samples["step"] >= 0).sum())
        marks = (None, None) if saved is None else (saved.trajectory_mark, saved.log_mark)
        warm_up = self.first_step + min(10, (config.steps - self.first_step) // 2)
        warm_at = time.perf_counter()
        with (
            Postponed() as signals,
            open_trajectory(config.trajectory, marks[0]) as trajectory,
            open_log(config.log, marks[1]) as log,
            self._good_frame_kept(trajectory),
        ):
            if saved is None:
                log.write(",".join(LOG_HEADER) + "\n")
                for path in (config.last_good, config.offending):
                    path.unlink(missing_ok=True)
            for step in self._steps():
                new, stopping = saved is None or step > self.first_step, signals.received > 0
                last = step == config.steps
                frame_due, row_due = step % config.interval == 0, step % self.rows_interval == 0
                if new and frame_due:
                    self._write_frame(trajectory)
                if new and row_due:
                    log.write(log_row(self.sample))
                    samples[n_samples] = self.sample
                    n_samples += 1
                if new:
                    self._observe(step, frame_due)
                    if step % config.checkpoint_interval == 0 or last or step == 0 or stopping:
                        self._save(trajectory, log)
                if last and not frame_due:  # after the checkpoint, because a longer run would not have this frame
                    self._write_frame(trajectory)
                if last and not row_due:
                    log.write(log_row(self.sample))
                    samples[n_samples] = self.sample
                    n_samples += 1
                if step == warm_up:
                    warm_at = time.perf_counter()
                if progress is not None:
                    progress(self.sample)
                if stopping:
                    signals.deliver()
        now = time.perf_counter()
        return make_report(
            config,
            self.atoms,
            self.start_cell,
            samples[:n_samples],
            self.guard.max_force_seen,
            now - self.started,
            (config.steps - warm_up, now - warm_at),
            None if saved is None else saved.step,
            self.observables.pair_distances(),
            self.observables.spectrum(),
        )

    def _steps(self) -> Iterator[int]:
        """Step numbers; `moment` and `sample` are those of the step, and have passed the guard."""
        self.written = -1
        for _ in self.dynamics.irun(self.config.steps - self.first_step):
            step = self.dynamics.nsteps
            if step > self.first_step:
                moment = self._look(step)
                self.sample = self._judge(moment)
                self.moment = moment
            yield step

    def _look(self, step: int) -> Moment:
        atoms = self.atoms
        return Moment(
            step=step,
            positions=atoms.positions.copy(),
            momenta=atoms.get_momenta(),
            cell=atoms.cell.array.copy(),
            energy=float(self._result("energy")),
            forces=self._result("forces"),
            stress=self._result("stress") if self.config.ensemble == "npt" else None,
        )

    def _result(self, name: str) -> Any:
        """A copy of a property of the present atoms, whose forces were just asked for: ASE's look whether atoms have
        moved takes a tenth of a millisecond."""
        value = self.atoms.calc.results.get(name)
        return np.array(self.atoms.calc.get_property(name, self.atoms) if value is None else value, dtype=np.float64)

    def _judge(self, moment: Moment) -> MDSample:
        """The row of this step.  Raises: RunError if the guard refuses it"""
        kinetic = float(self.atoms.get_kinetic_energy())
        temperature = self._temperature(kinetic)
        total, conserved, volume, pressure = moment.energy + kinetic, math.nan, math.nan, math.nan
        if self.config.integrator == "nve":
            conserved = total
        elif self.config.integrator != "langevin":
            conserved = self.dynamics.get_conserved_energy()
        if self.config.ensemble == "npt":
            volume = float(abs(np.linalg.det(moment.cell)))
            if moment.stress is not None:
                pressure = (2.0 * kinetic / (3.0 * volume) - float(moment.stress[:3].mean())) / units.GPa
        self.guard.check(moment, kinetic, temperature, conserved)
        time_fs = moment.step * self.config.timestep
        return MDSample(moment.step, time_fs, moment.energy, kinetic, total, temperature, conserved, volume, pressure)

    def _temperature(self, kinetic: float) -> float:
        return _temperature(kinetic, self.n_free)

    def _observe(self, step: int, frame_due: bool) -> None:
        if step % self.observables.every == 0:
            self.observables.add_velocities(self.moment.momenta / self.atoms.get_masses()[:, None])
        if frame_due:
            self.observables.add_distances(self.moment.positions, self.moment.cell)

    def _save(self, trajectory: File, log: File) -> None:
        moment, guard = self.moment, self.guard
        state = Checkpoint(
            step=moment.step,
            positions=moment.positions,
            momenta=moment.momenta,
            cell=moment.cell,
            integrator=get_state(self.config.integrator, self.dynamics),
            rng=self.rng.bit_generator.state,
            observables=self.observables.state(),
            rows_interval=self.rows_interval,
            trajectory_mark=trajectory.mark(),
            log_mark=log.mark(),
            first=guard.first,
            before=self.sample.total,
            max_force=guard.max_force_seen,
        )
        with disk_errors(self.config.checkpoint):
            checkpoint.save(self.config.checkpoint, state, self.options)

    def _write_frame(self, trajectory: File) -> None:
        trajectory.write(self._frame(self.moment))
        self.written = self.moment.step

    def _frame(self, moment: Moment) -> Atoms:
        frame = self.atoms.copy()
        frame.set_cell(moment.cell)
        frame.positions[:] = moment.positions
        frame.arrays["momenta"][:] = moment.momenta
        frame.info = {"step": moment.step, "time_fs": float(moment.step * self.config.timestep)}
        results: dict[str, Any] = {"energy": moment.energy, "forces": moment.forces}
        if moment.stress is not None:
            results["stress"] = moment.stress
        frame.calc = SinglePointCalculator(frame, **results)
        return frame

    @contextlib.contextmanager
    def _good_frame_kept(self, trajectory: File) -> Iterator[None]:
        """Whenever the run ends early, also by Ctrl-C: write the last good frame; an error names its file."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, ResourceError):
                raise
            if self.moment.step != self.written:
                self._write_frame(trajectory)
            if not isinstance(error, EqffError):
                raise
            raise self._stopped(error) from error

    def _stopped(self, error: EqffError) -> RunError:
        """Write the last good and the offending frame, and name them."""
        config, step = self.config, self.moment.step + 1
        offending = self.atoms.copy()  # the positions that the integrator has just reached
        offending.info = {"step": step, "time_fs": float(step * config.timestep), "reason": error.message}
        results = getattr(self.atoms.calc, "results", {})
        if not self.atoms.calc.calculation_required(self.atoms, ["energy", "forces"]):
            offending.calc = SinglePointCalculator(offending, energy=results["energy"], forces=results["forces"])
        for path, frame in ((config.last_good, self._frame(self.moment)), (config.offending, offending)):
            with contextlib.closing(TextTrajectory(path)) as file:
                file.write(frame)
        return RunError(
            error.id if isinstance(error, RunError) else "EQ5101",
            f"step {step} of {config.steps}: {error.message}; the last good frame is {config.last_good} and the last "
            f"of {config.trajectory}, the offending one {config.offending}; try a smaller timestep (now "
            f"{config.timestep} fs) or a lower temperature, and see whether the potential knows such structures",
        )


@contextlib.contextmanager
def _only_writer(config: MDConfig) -> Iterator[None]:
    """No other process writes the trajectory, or another one with the same names beside it."""
    with contextlib.ExitStack() as held:
        for path in (config.trajectory, config.log):
            with disk_errors(path):
                held.enter_context(locked_in_new_folder(path))
        yield


def make_guard(config: MDConfig, atoms: Atoms, calculator: Any) -> Guard:
    """The guard of a run from these atoms, and a text with its limits."""
    n_free = _n_free(config, atoms)
    given = _temperature(float(atoms.get_kinetic_energy()), n_free) if config.keep_momenta else 0.0
    hottest = max(config.temperature, given)
    return Guard(config.guard, atoms, hottest, n_free, CONSERVED[config.integrator], trained_distance(calculator))


def _n_free(config: MDConfig, atoms: Atoms) -> int:
    """Langevin noise moves and rotates the whole system; the other integrators leave it at rest."""
    langevin = config.integrator == "langevin"
    return int(atoms.get_number_of_degrees_of_freedom()) if langevin else n_degrees_of_freedom(atoms)


def _temperature(kinetic: float, n_free: int) -> float:
    return 2.0 * kinetic / (n_free * units.kB) if n_free else 0.0


def _check(config: MDConfig, atoms: Atoms) -> None:
    """Refuse options that would fail later, or silently give nonsense."""
    config.refuse_existing()
    check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, "structure")
    massless = np.flatnonzero(~(atoms.get_masses() > 0))
    if massless.size:
        raise ConfigError("EQ1209", f"structure: atom {massless[0]} has mass 0; give every atom a mass")
    if config.keep_momenta and not atoms.has("momenta"):
        raise ConfigError("EQ1206", "keep_momenta: the structure carries no momenta; leave the option out to draw them")
    if config.ensemble == "npt" and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            "EQ1207",
            f"ensemble=npt: pbc={atoms.pbc.tolist()}, cell rank {atoms.cell.rank}; use nvt, since "
            "constant pressure needs a structure periodic in three directions",
        )
    allowed: Any = {"nve": object, "nvt": FixAtoms, "npt": ()}[config.ensemble]
    for constraint in atoms.constraints:
        if not isinstance(constraint, allowed):
            raise ConfigError(
                "EQ1208", f"ensemble={config.ensemble}: cannot keep {type(constraint).__name__}; remove it"
            )
