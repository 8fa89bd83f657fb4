"""Writes what a run folder holds besides checkpoints and metrics."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

from eqff import config as config_io
from eqff.data.frame import calmest
from eqff.data.reading.index import split_index
from eqff.data.reading.read import source_sha256
from eqff.data.statistics import Statistics, spanning_formulas
from eqff.data.store.ase_store import to_atoms
from eqff.training.folder.run_file import BASELINE, CONFIG, MODEL, PLAN, run_file
from eqff.training.prepare.preparation import Prepared

N_CALMEST = 1000  # training frames among which structure.xyz is chosen


def write_records(folder: Path, prepared: Prepared) -> None:
    """Write plan.json, config.toml, split.json, model.json, statistics.json and structure.xyz.

    config.toml is what the user said, plan.json what was decided; with both, the run can be resumed.

    Raises: ResourceError EQ6130 if a file cannot be written
    """
    plan = prepared.plan
    _write_json(folder / PLAN, plan.record())
    _write(folder / CONFIG, config_io.to_toml(prepared.config))
    with run_file(folder / "split.json") as temporary:
        plan.split.save(temporary)
    if plan.baseline is not None and plan.baseline.file is not None:
        with run_file(folder / BASELINE) as temporary:
            shutil.copyfile(plan.baseline.file, temporary)
    _write_json(folder / MODEL, _model_record(prepared))
    _write_json(folder / "statistics.json", _without_nan(plan.statistics))
    if not (folder / "structure.xyz").is_file():
        atoms = to_atoms(calmest(prepared.frames.frames_at(plan.split.train[:N_CALMEST].tolist())))
        atoms.calc, atoms.info = None, {}
        with run_file(folder / "structure.xyz") as temporary:
            atoms.write(temporary, format="extxyz")


def _model_record(prepared: Prepared) -> dict[str, Any]:
    """The model and where its data come from, for the header of the potential."""
    config, plan, provenance = prepared.config, prepared.plan, prepared.source.provenance
    numbers = plan.statistics
    data: dict[str, Any] = provenance | {
        "split_sha256": plan.split.sha256,
        "n_train": len(plan.split.train),
        "n_validation": len(plan.split.validation),
        "level_of_theory": config.data.level_of_theory or provenance.get("level_of_theory", ""),
        "licence": config.data.licence or provenance.get("licence", ""),
        "min_distance_A": numbers.min_distance,
        "reference_rank": numbers.reference_rank,
        # only needed where the frames do not determine the reference energy of every element
        "compositions": spanning_formulas(prepared.frames) if numbers.reference_rank < len(numbers.species) else [],
    }
    if numbers.isolated_atoms:
        data["isolated_atoms_eV"] = numbers.isolated_atoms
    if plan.initial_weights is not None:
        data["init_from"] = Path(plan.initial_weights).name
    if prepared.foreign is not None:
        data["foreign"] = {
            "file": prepared.foreign.name,
            "sha256": source_sha256(split_index(str(config.data.foreign))[0]),
            "replayed": len(prepared.foreign.replayed),
            "labels": prepared.foreign.labelled_by,
        }
    record = {"family": plan.family, "config": config_io.to_mapping(plan.model_config), "data": data}
    return record if plan.baseline is None else record | {"baseline": plan.baseline.record}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with run_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _without_nan(numbers: Statistics) -> dict[str, Any]:
    """Statistics for JSON, with null instead of NaN for species that do not occur."""
    plain: dict[str, Any] = {}
    for name, value in dataclasses.asdict(numbers).items():
        if isinstance(value, dict):
            plain[name] = value
            continue
        values = [None if isinstance(x, float) and math.isnan(x) else x for x in _as_list(value)]
        plain[name] = values if isinstance(value, tuple) else values[0]
    return plain


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]
