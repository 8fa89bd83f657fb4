"""From a run folder to its best model, and to a potential file.

python -m eqff.training.folder.trained RUN OUTPUT     what a training run starts to export while it goes on
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.reading.read import read_frames
from eqff.elements import species_index
from eqff.errors import ConfigError, DataError, EqffError, PotentialError
from eqff.exporter import export
from eqff.graph import Structure
from eqff.neighbors import build_structure
from eqff.nn.hyperparameters import per_species
from eqff.training.folder.run_file import BEST, MODEL

N_STRUCTURES = 3


class Run(NamedTuple):
    """What a training run left behind."""

    model: nn.Module  # averaged weights of the chosen checkpoint
    family: str
    config: dict[str, Any]  # of the family, plain values
    data: dict[str, Any]  # provenance of the training data, split hash
    validation: dict[str, float]  # metrics of the chosen checkpoint
    baseline: dict[str, Any] | None = None  # calculator whose energies were subtracted from the labels


def load_run(folder: str | Path) -> Run:
    """The best model of a run (lowest force error on validation frames), with its averaged weights.

    Args:   folder: a run folder of `eqff train`
    Raises: ConfigError EQ1071 if the folder has no best model yet; PotentialError if checkpoint and model do not fit
    """
    folder = Path(folder)
    path = folder / BEST
    record = read_record(folder)
    if not path.is_file():
        raise _not_a_run(folder)
    family = registry.load("models", record["family"])
    config = config_io.from_mapping(family.Config, record["config"], where=f"{folder}/{MODEL}")
    model = family.Model(config)
    state = read_checkpoint(path)
    try:
        model.load_state_dict(checkpoint_weights(state))
    except RuntimeError as error:
        raise PotentialError(
            "EQ4310", f"{path}: does not fit model.json: {error}; the folder holds files of two runs, so copy it again"
        ) from error
    average, parameters = state["average"], dict(model.named_parameters())
    with torch.no_grad():
        for name, value in zip(average["names"], average["average"], strict=True):
            parameters[name].copy_(value)
    isolated = record["data"].get("isolated_atoms_eV")
    if isolated:
        config = with_isolated_atoms(model, config, isolated)
        parameters = dict(model.named_parameters())
        model = family.Model(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(parameters[name])
        record["config"] = config_io.to_mapping(config)
    row = measured(state)
    return Run(model.eval(), record["family"], record["config"], record["data"], row, record.get("baseline"))


@torch.no_grad()
def with_isolated_atoms(model: nn.Module, config: Any, energies: Mapping[str, float]) -> Any:
    """The Config with the reference energies that give isolated atoms their stated energies.

    A model's own energy of an atom without neighbours is not 0, and its reference energy makes up for it.

    Args: model: of this Config; energies: symbol -> eV of an isolated atom
    """
    species, none = config.species, torch.zeros(0, dtype=torch.int64)
    found = model(torch.arange(len(species)), none, none, torch.zeros(0, 3, dtype=torch.float64)).tolist()
    references = per_species(config.reference_energies, len(species), "reference_energies")
    changed = tuple(
        reference + energies.get(symbol, energy) - energy
        for symbol, reference, energy in zip(species, references, found, strict=True)
    )
    return dataclasses.replace(config, reference_energies=changed)


def read_record(folder: Path) -> dict[str, Any]:
    """model.json of a run: family, config and data.  Raises: ConfigError EQ1071 if the folder is not of a run"""
    if not (folder / MODEL).is_file():
        raise _not_a_run(folder)
    record: dict[str, Any] = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    return record


def _not_a_run(folder: Path) -> ConfigError:
    return ConfigError("EQ1071", f"{folder}: no {MODEL} and {BEST}; give a run folder of `eqff train`")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.  Raises: PotentialError EQ4312 for a damaged file"""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["state_dict"]
    except Exception as error:  # torch raises many kinds
        raise PotentialError(
            "EQ4312", f"{path}: cannot be read as a checkpoint ({error}); use another checkpoint of the run"
        ) from error
    return state


def checkpoint_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of the model in a checkpoint, as they are at its last step."""
    return {k.removeprefix("model."): v for k, v in state["state_dict"].items() if k.startswith("model.")}


def measured(state: dict[str, Any]) -> dict[str, float]:
    """Row of metrics.csv that belongs to a checkpoint; {} before the first validation."""
    row: dict[str, float] = state["callbacks"]["BestCheckpoint"]["row"]
    return row


def export_run(
    folder: str | Path,
    output: str | Path,
    force: bool = False,
    card: Path | None = None,
    metrics: Path | None = None,
    structure: Path | None = None,
    licence: str = "not stated",
    citation: str = "not stated",
) -> dict[str, Any]:
    """Write the best model of a run as a potential file.

    Args:   card: Markdown to store in the file; metrics: JSON of further metrics, e.g. on test frames;
            structure: file whose first frames become test vectors beside the synthetic ones;
            licence, citation: of the potential; those of the data are in the run folder
    Returns: the header
    Raises: as load_run and eqff.exporter.export
    """
    run = load_run(folder)
    names = ("forces_mae_meV_A", "energy_mae_meV", "stress_mae_GPa")  # absent where no validation frame has the label
    errors = {name: run.validation.get(name, math.nan) for name in names}
    validation: dict[str, float | None] = {name: value for name, value in errors.items() if not math.isnan(value)}
    validation |= {"n_frames": run.data["n_validation"], "epoch": run.validation.get("epoch")}
    measured_errors: dict[str, Any] = {"validation": validation}
    if metrics is not None:
        measured_errors |= _read_json(metrics)
    metadata = {
        "training_data": run.data,
        "metrics": measured_errors,
        "level_of_theory": run.data.get("level_of_theory") or "not stated",
        "licence": licence,
        "citation": citation,
    }
    text = _read_text(card) if card is not None else ""
    structures = [] if structure is None else _structures(structure, run.config)
    return export(
        run.model,
        run.family,
        run.config,
        output,
        metadata=metadata,
        baseline=run.baseline,
        card=text,
        structures=structures,
        force=force,
    )


def _structures(path: Path, config: dict[str, Any]) -> list[Structure]:
    frames = read_frames(path)[:N_STRUCTURES]
    return [
        build_structure(
            frame.positions,
            species_index(frame.atomic_numbers, config["species"]),
            frame.cell,
            frame.pbc,
            config["r_max"],
        )
        for frame in frames
    ]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError("EQ3092", f"{path}: cannot be read as text ({error}); copy the run again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read_text(path))
    except ValueError as error:
        raise DataError("EQ3090", f"{path}: is not JSON ({error}); copy the run again") from error
    if not isinstance(found, dict):
        raise DataError("EQ3091", f"{path}: expected a table of metrics; copy the run again")
    return found


def _main(folder: str, output: str) -> int:
    try:
        export_run(folder, output, force=True)
    except EqffError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
