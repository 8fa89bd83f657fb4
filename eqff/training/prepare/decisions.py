"""What a configuration leaves open and the data decide: how many frames, whether to compile, how many epochs."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset, make_loader, n_batches
from eqff.data.splits import Split
from eqff.data.store.store import Store
from eqff.errors import ConfigError
from eqff.kernels import build
from eqff.training.config import RunConfig, TrainingConfig

VALIDATION_SHARE = 20  # one frame of so many validates
MAX_VALIDATION = 1000  # frames
# Edges of a batch, within r_max. Preset nequip-fast, CPU time of a step and its optimiser on a busy core (`eqff train
# --dry-run`), aspirin, r_max 4 Å: batches of 10 frames (2232 edges) 67 ms compiled, 83 ms not; of 20 frames (4436) 131
# and 152. Of periodic frames only the eager step evaluates radial networks once for an edge and its reverse: without
# that in the compiled one, the two were equal at 1510 edges of aspirin.
MOST_EDGES, MOST_EDGES_PERIODIC = 4500, 1600
COUNTED_TOGETHER = 256  # frames
N_VALIDATIONS = 100  # of a run


def with_counts(config: RunConfig, n_frames: int) -> RunConfig:
    """n_train and n_validation where they are not given: 5 % validate, the others train in whole batches.

    What whole batches leave over validates, too, if n_validation is open.

    Raises: ConfigError EQ1480 if none is left to train or to validate
    """
    data, size = config.data, 1 if config.training.max_edges else config.training.batch_size
    n_train, n_validation = data.n_train, data.n_validation
    share = n_frames if n_train is None else n_train * VALIDATION_SHARE // (VALIDATION_SHARE - 1)
    n_least = min(max(share // VALIDATION_SHARE, 1), MAX_VALIDATION)
    if n_train is None:
        rest = n_frames - (n_least if n_validation is None else n_validation)
        n_train = rest - rest % size if rest >= size else rest
        n_validation = n_frames - n_train if n_validation is None else n_validation
    elif n_validation is None:
        n_validation = min(n_least, n_frames - n_train)
    if n_train < 1 or n_validation < 1:
        given = {"data.n_train": data.n_train, "data.n_validation": data.n_validation}
        told = ", ".join(f"{key}={value}" for key, value in given.items() if value is not None) or "data.train"
        raise ConfigError(
            "EQ1480",
            f"{told}: of {n_frames} frames at least one must train and one validate; give more frames or lower numbers",
        )
    return _with_data(config, n_train, n_validation)


def with_schedule(config: RunConfig, dataset: FrameDataset, split: Split) -> RunConfig:
    """epochs of training.steps, and intervals of validations and checkpoints where they are 0."""
    training = config.training
    epochs = training.epochs
    if training.steps:
        size = {"max_edges": training.max_edges} if training.max_edges else {"batch_size": training.batch_size}
        n_ranks = training.devices * training.nodes
        loader = make_loader(dataset[split.train], shuffle=True, seed=training.seed, n_ranks=n_ranks, **size)
        epochs = max(1, round(training.steps / max(1, n_batches(loader))))
    interval = max(1, round(epochs / N_VALIDATIONS))
    decided = dataclasses.replace(
        training,
        epochs=epochs,
        steps=0,
        validate_every=training.validate_every or interval,
        checkpoint_every=training.checkpoint_every or interval,
    )
    return dataclasses.replace(config, training=decided)


def with_split(config: RunConfig, split: Split) -> RunConfig:
    """The numbers of frames of a saved split."""
    return _with_data(config, len(split.train), len(split.validation))


def why_eager(
    config: RunConfig,
    frames: Sequence[Frame] | Store,
    split: Split,
    species: Sequence[str],
    r_max: float,
    degree: float,
) -> str | None:
    """Why training.compile="auto" leaves the step uncompiled; None if it compiles it.

    Batches have to be equal: frames with as many atoms and edges each, full batches, equal shares. The edges of
    molecules are made equal (`preparation.equal_edges`), so atoms are enough; those of periodic frames are counted.

    Args: r_max Å; degree: mean number of neighbours within r_max
    """
    training, n_train = config.training, len(split.train)
    n_processes = training.devices * training.nodes
    n_atoms = _n_atoms(frames)[split.train]
    if uses_gpu(training):
        return "it was not measured on a GPU"
    if training.max_edges:
        return f"batches differ with max_edges={training.max_edges}"
    if n_train % training.batch_size:
        return f"{n_train} frames to train are no multiple of batch_size={training.batch_size}"
    if training.batch_size % n_processes:
        return f"batch_size={training.batch_size} is no multiple of {n_processes} processes"
    if n_atoms.min() < n_atoms.max():
        return f"frames have {n_atoms.min()} to {n_atoms.max()} atoms"
    n_edges = training.batch_size * n_atoms[0] * degree
    is_periodic = any(frame.pbc.any() for frame in frames)
    most = MOST_EDGES_PERIODIC if is_periodic else MOST_EDGES
    if n_edges > most:
        return f"a batch has about {n_edges:.0f} edges, and beyond {most} compiling was not found to win"
    if build.compiler() is None:
        return "no C++ compiler was found"
    if is_periodic:
        return _differing_edges(FrameDataset(frames, species, r_max, require=()), split.train)
    return None


def uses_gpu(training: TrainingConfig) -> bool:
    """Whether a run with these settings is on a GPU of this machine."""
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    return training.accelerator == "cuda" or (training.accelerator == "auto" and there)


def _differing_edges(dataset: FrameDataset, rows: np.ndarray) -> str | None:
    """Stops at the first frames that differ, which nearly always are the first."""
    least = most = int(dataset.n_edges(rows[:1].tolist())[0])
    for start in range(0, len(rows), COUNTED_TOGETHER):
        counts = dataset.n_edges(rows[start : start + COUNTED_TOGETHER].tolist())
        least, most = min(least, int(counts.min())), max(most, int(counts.max()))
        if least < most:
            return f"periodic frames have {least} to {most} edges within r_max"
    return None


def _n_atoms(frames: Sequence[Frame] | Store) -> np.ndarray:
    if isinstance(frames, Store):
        return frames.n_atoms
    return np.array([len(frame.atomic_numbers) for frame in frames])


def _with_data(config: RunConfig, n_train: int, n_validation: int) -> RunConfig:
    data = dataclasses.replace(config.data, n_train=n_train, n_validation=n_validation)
    return dataclasses.replace(config, data=data)
