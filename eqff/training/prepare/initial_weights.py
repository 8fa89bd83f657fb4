"""Weights that a training begins with: those of a potential, a run folder or a checkpoint."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eqff import registry
from eqff.artifact.lookup import SUFFIX, available
from eqff.config import to_mapping
from eqff.errors import ConfigError
from eqff.rebuild import rebuild
from eqff.training.folder.run_file import MODEL
from eqff.training.folder.trained import checkpoint_weights, load_run, read_checkpoint, read_record

KEPT = ("avg_num_neighbors", "energy_scale")  # numbers that the weights were trained with
FREE = ("species", "reference_energies", "seed", *KEPT)  # may differ between models of one architecture
LEAST_SHARE = 0.5  # of a model's weights must be in a start


class Start(NamedTuple):
    """Initial weights and the model that they are of."""

    path: Path
    family: str  # "" where the file does not say
    config: dict[str, Any]  # of the family; {} where the file does not say
    weights: dict[str, Tensor]

    @property
    def species(self) -> list[str]:
        return list(self.config.get("species", []))


class Taken(NamedTuple):
    """Which weights of a model were copied from a start."""

    copied: list[str]
    partly: list[str]  # per species, for the species of the start only
    new: list[str]  # not in the start, or of another shape: random
    unused: list[str]  # of the start

    def report(self) -> str:
        """Some lines to print; long lists of names are shortened."""
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


def architecture(name_or_path: str | Path) -> tuple[str, dict[str, Any]]:
    """Family and hyper-parameters of initial weights, without reading the weights.

    Returns: (family, fields of its Config); ("", {}) for a checkpoint outside its run folder
    Raises:  as read_start
    """
    path = Path(name_or_path)
    if _is_run(name_or_path):
        record = read_record(path)
    elif path.suffix == ".ckpt":
        run = path.parent.parent
        record = read_record(run) if (run / MODEL).is_file() else {"family": "", "config": {}}
    else:
        record = _header(name_or_path)
    return record["family"], record["config"]


def read_start(name_or_path: str | Path) -> Start:
    """Weights of a potential (file or name), a run folder (its best, averaged ones) or a checkpoint (its last ones).

    Raises: ConfigError EQ1198 for another file, EQ1071 for a folder that is not of a run; PotentialError for a damaged
            potential or checkpoint
    """
    path = Path(name_or_path)
    if _is_run(name_or_path):
        run = load_run(path)
        return Start(path, run.family, run.config, _parameters(run.model))
    if path.suffix == ".ckpt":
        return Start(path, *architecture(path), checkpoint_weights(read_checkpoint(path)))
    header = _header(name_or_path)
    return Start(path, header["family"], header["config"], _parameters(rebuild(name_or_path)))


def _is_run(name_or_path: str | Path) -> bool:
    """Whether this is a folder; a folder in the working directory does not hide a potential of its name."""
    return Path(name_or_path).is_dir() and str(name_or_path) not in available()


def _header(name_or_path: str | Path) -> dict[str, Any]:
    from eqff.artifact import inspect

    path = Path(name_or_path)
    if not path.name.endswith(SUFFIX) and path.is_file() and str(name_or_path) not in available():
        raise ConfigError(
            "EQ1198", f"{path} holds no weights; give a potential <name>{SUFFIX}, a .ckpt file or a run folder"
        )
    return inspect(name_or_path)


def starting_numbers(start: Start, species: Sequence[str]) -> dict[str, Any]:
    """Fields of a Config that the weights were trained with.

    Per-species values go to the same element, and an element that is new gets the mean of the others.
    """
    found: dict[str, Any] = {}
    for name in KEPT:
        value = start.config.get(name)
        if isinstance(value, list | tuple) and len(value) == len(start.species):
            of_element = dict(zip(start.species, map(float, value), strict=True))
            mean = sum(of_element.values()) / len(of_element)
            found[name] = [of_element.get(symbol, mean) for symbol in species]
        elif value is not None:
            found[name] = value
    return found


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
    """Name of a parameter -> the dimension that runs over species: it grows with an additional species."""
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
