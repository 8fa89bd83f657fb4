"""The same simulation with several seeds, one after the other or in several processes."""

import copy
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from typing import Any

from ase import Atoms

from eqff.errors import ConfigError, EqffError, RunError
from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.report import MDReport, MDSample
from eqff.tasks.md.run import make_guard, run_md


def replica_configs(config: MDConfig, n_replicas: int) -> list[MDConfig]:
    """Seeds seed, seed + 1, ...; traj.extxyz becomes traj_0.extxyz, traj_1.extxyz, ...  A single one keeps the name.

    Raises: ConfigError EQ1266 unless n_replicas >= 1
    """
    if n_replicas < 1:
        raise ConfigError("EQ1266", f"replicas={n_replicas} is below 1; give 1 for a single run")
    if n_replicas == 1:
        return [config]
    digits = len(str(n_replicas - 1))
    path = config.trajectory
    return [
        _begun_or_new(
            replace(config, seed=config.seed + i, trajectory=path.with_name(f"{path.stem}_{i:0{digits}}{path.suffix}"))
        )
        for i in range(n_replicas)
    ]


def run_replicas(
    config: MDConfig,
    atoms: Atoms,
    calculator: Any,
    n_replicas: int,
    processes: int = 1,
    progress: Callable[[int, MDSample], None] | None = None,
    announce: Callable[[str], None] | None = None,
    prepare: Callable[[], None] | None = None,
) -> list[MDReport]:
    """Run all replicas; a failure does not stop the others.

    Args:    as `run_md`; calculator: is copied, and must pickle for processes > 1;
             progress: with the number of the replica, for processes = 1;
             prepare: called once in each new process (importable by name)
    Returns: reports in the order of seeds
    Raises:  ConfigError EQ1266, EQ1267; the error of the only replica that failed, or RunError EQ5115 naming all
    """
    configs = replica_configs(config, n_replicas)
    if processes < 1:
        raise ConfigError("EQ1267", f"processes={processes} is below 1; give 1 to run the replicas in turn")
    results: list[MDReport | EqffError] = []
    if processes == 1 or n_replicas == 1:
        for index, one in enumerate(configs):
            engine = calculator if n_replicas == 1 else copy.deepcopy(calculator)  # replicas share no state
            announced = announce if index == 0 else None
            results.append(_outcome(one, atoms, engine, _for_replica(progress, index), announced))
    else:
        if announce is not None:
            announce(str(make_guard(config, atoms, calculator)))
        results = _in_processes(configs, atoms, calculator, processes, prepare)
    failures = [(index, result) for index, result in enumerate(results) if isinstance(result, EqffError)]
    if failures:
        if n_replicas == 1:
            raise failures[0][1]
        text = "; ".join(f"replica {index} (seed {configs[index].seed}): {error}" for index, error in failures)
        raise RunError(
            "EQ5115",
            f"{len(failures)} of {n_replicas} replicas failed: {text}; mend the cause and continue with --resume",
        )
    return [result for result in results if isinstance(result, MDReport)]


def _begun_or_new(config: MDConfig) -> MDConfig:
    """A replica that had not begun when the others were interrupted begins now."""
    begun = config.checkpoint.exists() or config.trajectory.exists() or config.log.exists()
    return replace(config, resume=config.resume and begun)


def _outcome(
    config: MDConfig,
    atoms: Atoms,
    calculator: Any,
    progress: Callable[[MDSample], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> MDReport | EqffError:
    try:
        return run_md(config, atoms, calculator, progress, announce)
    except EqffError as error:
        return error


def _for_replica(progress: Callable[[int, MDSample], None] | None, index: int) -> Callable[[MDSample], None] | None:
    if progress is None:
        return None
    return lambda sample: progress(index, sample)


def _in_processes(
    configs: list[MDConfig], atoms: Atoms, calculator: Any, processes: int, prepare: Callable[[], None] | None
) -> list[MDReport | EqffError]:
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # forked threads of torch may hang
    pool = ProcessPoolExecutor(min(processes, len(configs)), mp_context=context, initializer=prepare)
    try:
        jobs: list[Future[MDReport | EqffError]] = [pool.submit(_outcome, one, atoms, calculator) for one in configs]
        results = [job.result() for job in jobs]
    except BaseException:  # Ctrl-C, or `kill`: checkpoints hold the state of every replica
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()
    return results
