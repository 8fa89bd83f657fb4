"""Decisions that a configuration leaves to the data: how many frames, whether to compile, how many epochs."""

import numpy as np
import torch
from scipy.spatial.distance import pdist

from eqff.data.frame import LABELS
from eqff.data.frame_list import Frames, read_in_groups
from eqff.data.loader import FrameDataset, make_loader, n_batches
from eqff.data.splits import Split, always_training, load_split, random_split
from eqff.errors import ConfigError, DataError
from eqff.kernels import build
from eqff.training.config import DataConfig, TrainingConfig

VALIDATION_SHARE = 20  # 1 of 20 frames validates
MAX_VALIDATION = 1000  # frames
# Edges of a batch, within r_max. Preset nequip-fast, CPU time of a step and its optimiser on a busy core (`eqff train
# --dry-run`), aspirin, r_max 4 Å: batches of 10 frames (2232 edges) 67 ms compiled, 83 ms not; of 20 frames (4436) 131
# and 152. With periodic frames only the eager step evaluates radial networks once for an edge and its reverse: without
# that in the compiled step, the two were equal at 1510 edges of aspirin.
MOST_EDGES, MOST_EDGES_PERIODIC = 4500, 1600
N_VALIDATIONS = 100  # of a run
MARGIN = 0.1  # Å, beyond the largest molecule


def divide(
    data: DataConfig, training: TrainingConfig, frames: Frames, isolated: np.ndarray
) -> tuple[Split, str | None]:
    """The saved split that the user named, or a random one of all frames with a label; isolated atoms always train.

    Args:    isolated [n] frames that are isolated atoms
    Returns: (split, a sentence about frames that are not where the user may expect them)
    Raises:  ConfigError EQ1069 if the saved split is of another number of frames, and as `counts`; DataError EQ3883 if
             all frames are isolated atoms
    """
    n_frames = len(frames)
    if len(isolated) == n_frames:
        raise DataError(
            "EQ3883", f"{data.train}: its {n_frames} frames are isolated atoms; add frames of atoms with neighbours"
        )
    if data.split is None:
        labelled = np.logical_or.reduce([frames.has(label) for label in LABELS])
        labelled[isolated] = False
        pool = np.flatnonzero(labelled) if labelled.any() else np.setdiff1d(np.arange(n_frames), isolated)
        drawn = random_split(len(pool), *counts(data, training, len(pool)), seed=data.split_seed)
        train, validation, test = (pool[part] for part in (drawn.train, drawn.validation, drawn.test))
        split = always_training(Split(train, validation, test, n_frames, drawn.seed), isolated)
        n_left = n_frames - len(pool) - len(isolated)
        return split, f"{n_left} frames without energy, forces and stress are left out" if n_left else None
    split = load_split(data.split)
    if split.n_frames != n_frames:
        raise ConfigError(
            "EQ1069", f"data.split is of {split.n_frames} frames, the file has {n_frames}; make the split of this file"
        )
    moved = np.setdiff1d(isolated, split.train)
    if not len(moved):
        return split, None
    return always_training(split, isolated), f"isolated atoms train, against data.split: frames {_few(moved)}"


def _few(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:6].tolist())) + (f" and {len(rows) - 6} more" if len(rows) > 6 else "")


def counts(data: DataConfig, training: TrainingConfig, n_frames: int) -> tuple[int, int]:
    """Numbers of training and of validation frames.

    By default 5 % of the frames validate and the others train in whole batches; frames that do not fill a batch
    validate as well.

    Raises: ConfigError EQ1480 if no frame is left to train or to validate
    """
    size = 1 if training.max_edges else training.batch_size
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
        keys = ", ".join(f"{key}={value}" for key, value in given.items() if value is not None) or "data.train"
        raise ConfigError(
            "EQ1480",
            f"{keys}: of {n_frames} frames at least one must train and one validate; give more frames or lower numbers",
        )
    return n_train, n_validation


def n_epochs(training: TrainingConfig, dataset: FrameDataset, split: Split) -> int:
    """training.epochs, or the number of whole epochs nearest to training.steps."""
    if not training.steps:
        return training.epochs
    size = {"max_edges": training.max_edges} if training.max_edges else {"batch_size": training.batch_size}
    n_ranks = training.devices * training.nodes
    loader = make_loader(dataset[split.train], shuffle=True, seed=training.seed, n_ranks=n_ranks, **size)
    return max(1, round(training.steps / max(1, n_batches(loader))))


def interval(every: int, epochs: int) -> int:
    """Epochs between two validations or checkpoints; 0 is replaced so that a run has about a hundred."""
    return every or max(1, round(epochs / N_VALIDATIONS))


def why_eager(training: TrainingConfig, dataset: FrameDataset, split: Split, degree: float) -> str | None:
    """Why training.compile="auto" leaves the step uncompiled; None if it compiles the step.

    Batches must be equal: the same numbers of atoms and edges in every frame, full batches, equal shares.  The numbers
    of edges of molecules can be made equal (`edges_of_largest`), so equal numbers of atoms are enough; those of
    periodic frames are compared.

    Args: dataset: of all frames, with edges within r_max; degree: mean number of neighbours within r_max
    """
    n_train, n_processes = len(split.train), training.devices * training.nodes
    n_atoms = dataset.source.n_atoms[split.train]
    if uses_gpu(training):
        return "it was not measured on a GPU"
    if training.max_edges:
        return f"batches differ with max_edges={training.max_edges}"
    if n_train % training.batch_size:
        return f"{n_train} training frames are not a multiple of batch_size={training.batch_size}"
    if training.batch_size % n_processes:
        return f"batch_size={training.batch_size} is not a multiple of {n_processes} processes"
    if n_atoms.min() < n_atoms.max():
        return f"frames have {n_atoms.min()} to {n_atoms.max()} atoms"
    n_edges = training.batch_size * n_atoms[0] * degree
    periodic = is_periodic(dataset, split)
    most = MOST_EDGES_PERIODIC if periodic else MOST_EDGES
    if n_edges > most:
        return f"a batch has about {n_edges:.0f} edges, and compiling did not pay beyond {most}"
    if build.compiler() is None:
        return "no C++ compiler was found"
    if periodic:
        edges = dataset.n_edges(split.train.tolist())
        if edges.min() < edges.max():
            return f"periodic frames have {edges.min()} to {edges.max()} edges within r_max"
    return None


def edges_of_largest(dataset: FrameDataset, split: Split) -> tuple[float, int] | None:
    """How to give all frames of one molecule the same number of edges: that of the frame with most within r_max.

    Args:    dataset: of all frames, with edges within r_max
    Returns: (cut-off Å within which every frame has that many edges, the number); None for periodic frames, whose
             numbers of edges are left as they are
    """
    if is_periodic(dataset, split):
        return None
    rows = used(split)
    most = int(dataset.n_edges(rows.tolist()).max())
    longest = max(float(pdist(frame.positions).max(initial=0.0)) for _, frame in read_in_groups(dataset.source, rows))
    return max(dataset.r_edges, longest) + MARGIN, most


def is_periodic(dataset: FrameDataset, split: Split) -> bool:
    """Whether a frame that trains or validates is periodic in any direction."""
    rows = used(split)
    dataset.n_edges(rows.tolist())  # finds out
    return bool(dataset.periodic[rows].any())


def used(split: Split) -> np.ndarray:
    """[n] numbers of the frames that train or validate, ascending."""
    return np.sort(np.concatenate([split.train, split.validation]))


def uses_gpu(training: TrainingConfig) -> bool:
    """Whether a run with these settings uses a GPU of this machine."""
    available = torch.cuda.is_available() or torch.backends.mps.is_available()
    return training.accelerator == "cuda" or (training.accelerator == "auto" and available)
