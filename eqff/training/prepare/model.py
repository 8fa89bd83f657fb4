"""The model of a run: its complete Config, initial weights, frozen weights and kernels."""

import dataclasses
import fnmatch
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.frame import Frame
from eqff.data.frame_list import Frames
from eqff.data.statistics import Statistics, reference_energies
from eqff.elements import SYMBOLS, species_index
from eqff.errors import ConfigError, ResourceError
from eqff.graph import edge_vectors
from eqff.neighbors import build_structure
from eqff.nn.fast.fused import fuse, share_radial
from eqff.nn.hyperparameters import per_species
from eqff.training.config import RunConfig
from eqff.training.prepare.initial_weights import Start, initialise, starting_numbers

SMALL = 1e-3  # eV/Å, eV/atom, or their ratio: forces that are smaller are 0 by symmetry, or those of minima
logger = logging.getLogger("eqff.training")


def config_as_written(config: RunConfig, frames: Frames, foreign: Sequence[int] = ()) -> Any:
    """The family's Config with the user's values; species are by default those of the frames, own and foreign.

    Args:   foreign: atomic numbers
    Raises: ConfigError naming the key
    """
    family = registry.load("models", config.model["family"])
    mapping = {"species": [SYMBOLS[z] for z in sorted({*frames.species, *foreign})]}
    mapping |= {key: value for key, value in config.model.items() if key != "family"}
    return config_io.from_mapping(family.Config, mapping, where="model")


def completed(written: Any, config: RunConfig, numbers: Statistics, start: Start | None) -> Any:
    """The Config with every value that the user left open: from the initial weights, else from the training frames.

    Args: written: the family's Config as `config_as_written`; numbers: of the training frames
    """
    values: dict[str, Any] = {
        "avg_num_neighbors": numbers.avg_num_neighbors,
        "energy_scale": energy_scale(numbers),
        "reference_energies": numbers.reference_energies,
        "seed": config.training.seed,
    }
    values |= {} if start is None else starting_numbers(start, written.species)
    fields = {field.name for field in dataclasses.fields(written)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in fields and name not in config.model
    }
    return dataclasses.replace(written, **values)


def energy_scale(numbers: Statistics) -> float:
    """Size of the numbers to learn: RMS of force components times 1 Å; where forces say nothing, that of energies.

    Returns: eV, > 0
    """
    forces, energies = numbers.force_rms or 0.0, numbers.energy_residual_std or 0.0  # eV/Å, eV/atom
    if forces > SMALL and forces > SMALL * energies:
        return forces
    return energies if energies > SMALL else 1.0


def make_model(
    model_config: Any, config: RunConfig, start: Start | None, kernels: bool, share: bool
) -> tuple[nn.Module, str | None]:
    """A model that is ready to be trained.

    Args:    model_config: the family's, complete; kernels, share: see `use_kernels`
    Returns: (the model, a sentence about its initial weights, None if they are random)
    Raises:  ConfigError as `initialise` and `freeze`
    """
    training, family = config.training, config.model["family"]
    model = registry.load("models", family).Model(model_config)
    model.to(getattr(torch, training.dtype))
    sentence = None
    if start is not None:
        sentence = f"init_from {start.path}: {initialise(model, family, model_config, start).report()}"
    freeze(model, training.freeze)
    if kernels:
        use_kernels(model, share)
    return model, sentence


@torch.no_grad()
def beside_the_start(model_config: Any, config: RunConfig, start: Start, frames: Sequence[Frame]) -> Any:
    """The Config with reference energies that are fitted beside the energies of the initial weights.

    Those of a potential that was trained with isolated atoms, or is universal, contain the energy of cohesion, and
    reference energies that were fitted to the labels alone would contain it once more.

    Args: model_config: complete; frames: some that train; those without energy do not count
    """
    species = list(model_config.species)
    model = registry.load("models", config.model["family"]).Model(model_config)
    initialise(model, config.model["family"], model_config, start)
    model.to(torch.float64)
    counts, rest = [], []
    for frame in frames:
        if frame.energy is None:
            continue
        index = species_index(frame.atomic_numbers, species)
        structure = build_structure(frame.positions, index, frame.cell, frame.pbc, model_config.r_max)
        inputs = (structure.species, structure.senders, structure.receivers, edge_vectors(structure))
        rest.append(float(frame.energy) - float(model(*inputs).sum()))
        counts.append(np.bincount(index, minlength=len(species)))
    if not counts:
        return model_config
    change, _, _ = reference_energies(np.array(counts), np.array(rest), len(species))
    references = np.array(per_species(model_config.reference_energies, len(species), "reference_energies")) + change
    theirs = dict(zip(start.species, _references_of(start), strict=True))
    for k in np.flatnonzero(np.sum(counts, axis=0) == 0):  # no label says anything about this element
        references[k] = theirs.get(species[k], references[k])
    return dataclasses.replace(model_config, reference_energies=tuple(references.tolist()))


def _references_of(start: Start) -> Sequence[float]:
    return per_species(start.config.get("reference_energies", 0.0), len(start.species), "reference_energies")


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude the weights whose names match a pattern (`embedding`, `layers.0.*`) from training.

    Raises: ConfigError EQ1402 for a pattern that matches nothing, EQ1403 if no weight is left to train
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern) + fnmatch.filter(names, f"{pattern}.*")
        if not matching:
            raise ConfigError("EQ1402", f"training.freeze={pattern!r}: no such weights; choose from {', '.join(names)}")
        for name in matching:
            model.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("EQ1403", f"training.freeze={list(patterns)}: leaves nothing to train; freeze fewer weights")


def use_kernels(model: nn.Module, share: bool) -> None:
    """Put convolutions on kernels compiled for this CPU; where that fails, say so and keep the reference.

    Args: share: evaluate radial networks once for both directions of an edge; a compiled step on periodic frames cannot
        use it, because the number of pairs is known at run time only
    """
    logger.info("compiling kernels, unless an earlier run has done so")
    try:
        fuse(model)
        if share:
            share_radial(model)
    except ResourceError as error:
        logger.warning("convolutions run on ATen, about half as fast: %s", error)
