"""The whole state of a run in one file, written whole or not at all, and the options that a restart must not change.

An .npz of plain arrays and one JSON text; numpy reads it without running anything.  A continued run has the same bits
when forces are a function of the positions alone.  EqffCalculator's are: its neighbour lists give the same edges in the
same order whenever they were made, so none is kept here.
"""

import hashlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import ase
import numpy as np
import torch
from ase import Atoms

from eqff.errors import ConfigError, RunError
from eqff.files import new_file
from eqff.tasks.md.config import MDConfig

FORMAT = 1
# options without effect on the motion: names of files, length, limits, intervals of saving
FREE = ("steps", "trajectory", "checkpoint_interval", "resume", "force", "guard")


class Checkpoint(NamedTuple):
    """Everything that a run needs to continue as if it had not stopped."""

    step: int
    positions: np.ndarray  # [n_atoms, 3] Å
    momenta: np.ndarray  # [n_atoms, 3] ASE units
    cell: np.ndarray  # [3, 3] Å
    integrator: dict[str, np.ndarray]  # see integrators.STATE
    rng: Mapping[str, Any]  # state of numpy's generator
    observables: dict[str, np.ndarray]
    rows_interval: int  # steps between log rows
    trajectory_mark: int  # end of the trajectory
    log_mark: int  # bytes of the log
    first: float  # eV, conserved energy at step 0
    before: float  # eV, total energy at `step`
    max_force: float  # eV/Å, until now


def save(path: Path, checkpoint: Checkpoint, options: Mapping[str, Any]) -> None:
    """Write atomically.  Args: options: of `fingerprint`.  Raises: OSError"""
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {"format": FORMAT, "options": dict(options), "environment": _environment()}
    for name, value in checkpoint._asdict().items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif name in ("integrator", "observables"):
            arrays.update({f"{name}/{key}": array for key, array in value.items()})
        else:
            plain[name] = value
    with new_file(path, force=True) as temporary, temporary.open("xb") as file:
        np.savez(file, **{"plain": np.array(json.dumps(plain)), **arrays})


def load(path: Path, options: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run with the same options.

    Warns:  when program versions or threads differ, so that the last bits may
    Raises: ConfigError EQ1263 if there is none, EQ1264 naming every option that changed; RunError EQ5120 if damaged,
            EQ5920 if another version wrote it
    """
    if not path.is_file():
        raise ConfigError("EQ1263", f"resume: there is no checkpoint {path}; start the run without --resume")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
        plain: dict[str, Any] = json.loads(str(arrays.pop("plain")))
        saved_options, environment = plain.pop("options"), plain.pop("environment")
        if plain.pop("format") != FORMAT:
            raise RunError("EQ5920", f"{path}: written by another version of eqff; continue with that version")
        groups: dict[str, Any] = {"integrator": {}, "observables": {}}
        for name in [name for name in arrays if "/" in name]:
            group, _, key = name.partition("/")
            groups[group][key] = arrays.pop(name)
        checkpoint = Checkpoint(**(plain | arrays | groups))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError("EQ5120", f"{path}: no checkpoint, or damaged ({error}); start the run anew") from error
    _refuse_changes(path, saved_options, json.loads(json.dumps(options)))
    changes = [f"{name} {old} -> {new}" for name, old, new in _changes(environment, _environment())]
    if changes:
        warnings.warn(f"resume: {', '.join(changes)}; the last bits may differ", UserWarning, stacklevel=3)
    return checkpoint


def fingerprint(config: MDConfig, atoms: Atoms, calculator: Any) -> dict[str, Any]:
    """Everything that determines the motion, as plain values: options, potential, starting structure."""
    options = {entry.name: getattr(config, entry.name) for entry in fields(config) if entry.name not in FREE}
    if config.integrator != "npt":
        del options["pressure_gpa"], options["barostat_time"]
    if config.ensemble != "nvt":
        del options["thermostat"]
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses()):
        digest.update(np.ascontiguousarray(array).tobytes())
    if config.keep_momenta and atoms.has("momenta"):
        digest.update(atoms.get_momenta().tobytes())
    digest.update(json.dumps([str(constraint.todict()) for constraint in atoms.constraints]).encode())
    options["structure"] = f"{atoms.get_chemical_formula()} {digest.hexdigest()[:16]}"
    return {**options, **_identity(calculator)}


def _identity(calculator: Any) -> dict[str, Any]:
    """Source of the forces: class and options of the calculator, and the content of its potential."""
    identity: dict[str, Any] = {"calculator": type(calculator).__name__}
    parameters = getattr(calculator, "parameters", {})
    given = sorted(name for name in parameters if parameters[name] is not None)
    identity |= {name: str(parameters[name]) for name in given if name not in ("potential", "skin")}
    potential = getattr(calculator, "potential", None)
    if parameters.get("accelerate", "auto") != "auto":  # which switches programs during the run
        identity["program"] = str(getattr(potential, "program", ""))
    header = getattr(potential, "header", None)
    if header is not None:
        text = json.dumps(dict(header), sort_keys=True, default=str)
        identity["potential"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return identity


def _environment() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "ase": ase.__version__,
        "threads": str(torch.get_num_threads()),
    }


def _refuse_changes(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changes = [f"{name}: {before} -> {after}" for name, before, after in _changes(old, new)]
    if changes:
        raise ConfigError(
            "EQ1264",
            f"resume: {path} belongs to a run with other options ({'; '.join(changes)}); give the old ones again, or "
            "start a new run with another --output",
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = [*old, *(name for name in new if name not in old)]
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]
