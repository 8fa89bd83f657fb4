"""Weights to start a training from: of a potential file, a run folder, a checkpoint, or a start file.

A start file is a safetensors file whose metadata state `family` and `config` (JSON): weights that are no potential,
e.g. because they come from a model of other mathematics.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from eqff import registry
from eqff.artifact.lookup import SUFFIX
from eqff.config import to_mapping
from eqff.errors import ConfigError, PotentialError
from eqff.rebuild import rebuild
from eqff.training.folder.trained import load_run

START_SUFFIX = ".start.safetensors"
KEPT = ("avg_num_neighbors", "energy_scale")  # numbers the weights were made for
FREE = ("species", "reference_energies", "seed", *KEPT)  # what may differ between models of one architecture
LEAST_SHARE = 0.5  # of a model's weights that a start must have


class Start(NamedTuple):
    """What a training may start from."""

    path: Path
    family: str  # "" where the file does not say
    config: dict[str, Any]  # of the family; {} where the file does not say
    weights: dict[str, Tensor]

    @property
    def species(self) -> list[str]:
        return list(self.config.get("species", []))


class Taken(NamedTuple):
    """What became of the weights of a model."""

    copied: list[str]
    partly: list[str]  # per species, of those the start knows
    new: list[str]  # not in the start, or of another shape: as initialised
    unused: list[str]  # of the start

    def report(self) -> str:
        """For people; names are listed where few."""
        lines = [f"{len(self.copied) + len(self.partly)} of {len(self.copied + self.partly + self.new)} weights taken"]
        for what, names in (
            ("taken for known species only", self.partly),
            ("not taken, as initialised", self.new),
            ("in the start and not used", self.unused),
        ):
            if names:
                shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                lines.append(f"{what}: {shown}")
        return "\n".join(lines)


def read_start(name_or_path: str | Path) -> Start:
    """Weights of a potential (file or name), run folder, checkpoint (.ckpt) or start file.

    Raises: ConfigError for a file or folder that is none of these; PotentialError for a damaged potential
    """
    path = Path(name_or_path)
    if path.is_dir():
        run = load_run(path)
        return Start(path, run.family, run.config, _parameters(run.model))
    if path.name.endswith(".safetensors"):
        return _start_file(path)
    if path.suffix == ".ckpt":
        return _checkpoint(path)
    from eqff.artifact import inspect

    if not path.name.endswith(SUFFIX) and path.is_file():
        raise ConfigError(
            "EQ1198", f"{path}: expected a potential <name>{SUFFIX}, <name>{START_SUFFIX}, a .ckpt file or a run folder"
        )
    header = inspect(name_or_path)
    return Start(path, header["family"], header["config"], _parameters(rebuild(name_or_path)))


def write_start(path: Path, model: nn.Module, family: str, config: Any, provenance: Mapping[str, str]) -> None:
    """Store a model's weights as a start file; replaces an existing one in one step.

    Args: config: the family's dataclass; provenance: text for the metadata
    """
    metadata = {"family": family, "config": json.dumps(to_mapping(config)), **provenance}
    scratch = path.with_name(f".{path.name}.partial")
    try:
        safetensors.torch.save_file(_parameters(model), scratch, metadata=metadata)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def starting_numbers(start: Start, species: Sequence[str]) -> dict[str, Any]:
    """Fields of a Config the weights were made for; per-species numbers only if the species are the same."""
    found = {name: start.config[name] for name in KEPT if name in start.config}
    return {
        name: value for name, value in found.items() if not isinstance(value, list) or start.species == list(species)
    }


@torch.no_grad()
def initialise(model: nn.Module, family: str, config: Any, start: Start) -> Taken:
    """Copy weights into a model where names and shapes agree; rows of species go to the same element.

    Args:   config: the model's
    Raises: ConfigError if the start is of another family, or if less than half of the weights (counted by number, of
            any species) fit
    """
    if start.family and start.family != family:
        raise ConfigError(
            "EQ1194", f"{start.path}: is {start.family}, and model.family={family!r}; start from the same"
        )
    species = list(config.species)
    axes = {} if not start.species or start.species == species else species_axes(family, config)
    copied: list[str] = []
    partly: list[str] = []
    new: list[str] = []
    for name, parameter in model.named_parameters():
        value = start.weights.get(name)
        axis = axes.get(name)
        if value is None:
            new.append(name)
        elif axis is not None:
            rows = [(k, start.species.index(symbol)) for k, symbol in enumerate(species) if symbol in start.species]
            ours, theirs = parameter.movedim(axis, 0), value.movedim(axis, 0)
            if ours.shape[1:] != theirs.shape[1:] or not rows:
                new.append(name)
                continue
            for k, j in rows:
                ours[k].copy_(theirs[j])
            (copied if len(rows) == len(species) else partly).append(name)
        elif value.shape == parameter.shape:
            parameter.copy_(value)
            copied.append(name)
        else:
            new.append(name)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    fitting, n_weights = sum(sizes[name] for name in (*copied, *partly)), sum(sizes.values())
    if fitting < LEAST_SHARE * n_weights:
        reason = f"{fitting} of {n_weights} weights have the name and shape of one of this model"
        raise ConfigError("EQ1195", f"{start.path}: only {reason}; {_way_out(config, start)}")
    used = {*copied, *partly}
    return Taken(copied, partly, new, [name for name in start.weights if name not in used])


def _way_out(config: Any, start: Start) -> str:
    """Which fields of the model's Config differ from those of the start."""
    own = to_mapping(config)
    differing = [
        f"model.{name}={own[name]!r} (there {value!r})"
        for name, value in start.config.items()
        if name in own and name not in FREE and own[name] != value
    ]
    if not differing:
        return "start from weights of the same model, or leave init_from out"
    return f"different are {', '.join(differing)}: write what is there, or leave init_from out"


def species_axes(family: str, config: Any) -> dict[str, int]:
    """Which dimension of which parameter runs over species: the one that grows with one species more."""
    extra = next(symbol for symbol in ("He", "Ne", "Ar", "Kr") if symbol not in config.species)
    n_species = len(config.species)
    fields: dict[str, Any] = {"species": (*config.species, extra)}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, tuple) and len(value) == n_species and all(isinstance(x, float) for x in value):
            fields[field.name] = (*value, value[-1])
    build = registry.load("models", family).Model
    shapes = {name: p.shape for name, p in build(config).named_parameters()}
    axes = {}
    for name, parameter in build(dataclasses.replace(config, **fields)).named_parameters():
        grown = [k for k, (a, b) in enumerate(zip(shapes[name], parameter.shape, strict=True)) if a != b]
        if grown:
            axes[name] = grown[0]
    return axes


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone().contiguous() for name, parameter in model.named_parameters()}


def _start_file(path: Path) -> Start:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        family, config = metadata["family"], json.loads(metadata["config"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        reason = f"{path}: not a start file, which states family and config ({error}); give one of `eqff import`"
        raise ConfigError("EQ1199", reason) from error
    return Start(path, family, config, weights)


def _checkpoint(path: Path) -> Start:
    """A checkpoint of `eqff train`: its last weights (a run folder gives the averaged ones)."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises nearly anything for a file that is no checkpoint
        reason = " ".join(str(error).split())[:200]
        raise PotentialError("EQ4311", f"{path}: cannot be read as a checkpoint of `eqff train` ({reason})") from error
    weights = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    record = path.parent.parent / "model.json"  # of its run folder
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return Start(path, known.get("family", ""), known.get("config", {}), weights)
