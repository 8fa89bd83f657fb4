"""Time and memory that a training will need, measured on its first steps."""

import copy
import dataclasses
import math
import statistics
import sys
import time
from typing import NamedTuple

import torch

from eqff.data.loader import make_loader, n_batches, to_structure
from eqff.training.config import RunConfig
from eqff.training.fit.lone_atoms import LoneAtoms
from eqff.training.fit.losses import errors, labels_of, loss_weights
from eqff.training.fit.optimizers import make_optimizer
from eqff.training.fit.step import CompiledStep, EagerStep
from eqff.training.prepare.preparation import Prepared, prepare

N_STEPS = 10  # timed, after two that warm up
SECONDS = 30.0  # after which no further step is timed


class Estimate(NamedTuple):
    """Measurements of one process."""

    n_parameters: int  # as in the header of the potential, with frozen and fixed ones
    n_train: int
    n_validation: int
    n_batches: int  # of an epoch
    n_epochs: int
    compiled: bool  # whether the step is compiled as a whole
    largest_batch: tuple[int, int]  # atoms and edges of the largest batch that was timed
    first_step_s: float  # with the time for compiling, if anything is compiled
    step_s: float  # median
    step_cpu_s: float  # median CPU time of the process, all threads
    epoch_s: float
    total_s: float  # of the whole run, with validations
    peak_memory_MB: float | None  # noqa: N815 - as `peak_memory`

    def report(self) -> str:
        """The lines that `eqff train --dry-run` prints."""
        return "\n".join(
            [
                f"parameters   {self.n_parameters:,}",
                f"frames       {self.n_train} to train in {self.n_batches} batches, {self.n_validation} to validate",
                f"batch        up to {self.largest_batch[0]} atoms and {self.largest_batch[1]} edges",
                f"first step   {self.first_step_s:.1f} s",
                f"step         {1e3 * self.step_s:.1f} ms (median), {1e3 * self.step_cpu_s:.1f} ms of CPU time"
                f"{', compiled as a whole' if self.compiled else ''}",
                f"epoch        {_duration(self.epoch_s)}, {self.n_epochs} of them",
                f"whole run    {_duration(self.total_s)}, in one process on the CPU, if it stays as busy as now",
                f"peak memory  {memory_text(self.peak_memory_MB)}",
            ]
        )


def estimate(config: RunConfig) -> Estimate:
    """Prepare a run, do its first steps and validate one batch; nothing is written.

    Raises: as `prepare`
    """
    prepared = prepare(config)
    prepared.plan.log()
    threads = torch.get_num_threads()
    if config.training.threads > 0:
        torch.set_num_threads(config.training.threads)
    try:
        return _measure(prepared)
    finally:
        torch.set_num_threads(threads)


def _measure(prepared: Prepared) -> Estimate:
    training, plan = prepared.config.training, prepared.plan
    size = {"max_edges": training.max_edges} if training.max_edges else {"batch_size": training.batch_size}
    loader = make_loader(prepared.dataset[plan.batched.train], shuffle=True, seed=training.seed, **size)
    parameters = [p for p in prepared.model.parameters() if p.requires_grad]
    initial = copy.deepcopy(prepared.model.state_dict())
    optimizer = make_optimizer(parameters, dataclasses.replace(training, learning_rate=0.0))
    alone = LoneAtoms(plan.model_config.species, plan.statistics.isolated_atoms)
    step = (CompiledStep if plan.compile else EagerStep)(prepared.model, plan.loss, alone)
    weights = loss_weights(plan.loss, 0.0)
    times: list[float] = []
    cpu_times: list[float] = []
    largest, first_done = (0, 0), math.inf  # the first step includes compiling
    for batch in loader:
        start, cpu_start = time.perf_counter(), time.process_time()
        structure = to_structure(batch)
        optimizer.zero_grad()
        step(structure, labels_of(batch, stress=bool(plan.loss.stress)), weights).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
        first_done = min(first_done, time.perf_counter())
        largest = max(largest, (len(structure.positions), len(structure.senders)), key=lambda size: size[1])
        if len(times) >= N_STEPS + 2 or time.perf_counter() - first_done > SECONDS:
            break
    prepared.model.load_state_dict(initial)
    step_s = statistics.median(times[2:] or times[-1:])
    start = time.perf_counter()
    first = next(iter(make_loader(prepared.dataset[plan.batched.validation], batch_size=training.batch_size)))
    labels = labels_of(first, stress=bool(plan.loss.stress))
    errors(alone.held(prepared.model), to_structure(first), labels, create_graph=False)
    validation_s = (time.perf_counter() - start) / first.num_graphs * len(plan.batched.validation)
    epoch_s = n_batches(loader) * step_s
    return Estimate(
        n_parameters=sum(p.numel() for p in prepared.model.parameters()),
        n_train=len(plan.batched.train),
        n_validation=len(plan.batched.validation),
        n_batches=n_batches(loader),
        n_epochs=plan.epochs,
        compiled=plan.compile,
        largest_batch=largest,
        first_step_s=times[0],
        step_s=step_s,
        step_cpu_s=statistics.median(cpu_times[2:] or cpu_times[-1:]),
        epoch_s=epoch_s,
        total_s=plan.epochs * (epoch_s + validation_s / plan.validate_every) + times[0],
        peak_memory_MB=peak_memory(),
    )


def peak_memory() -> float | None:
    """Largest memory of this process so far, MB, without that of a GPU; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memory_text(megabytes: float | None) -> str:
    """The memory as text."""
    return "not known on this system" if megabytes is None else f"{megabytes:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90.0:
        return f"{seconds:.1f} s"
    if seconds < 5400.0:
        return f"{seconds / 60.0:.0f} minutes"
    return f"{seconds / 3600.0:.1f} hours"
