"""Everything a run needs before its first step: frames read, decisions taken, the model made."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from eqff.data.frame_list import FrameList, Frames
from eqff.data.isolated import isolated_atoms, isolated_rows
from eqff.data.joined import Joined
from eqff.data.loader import FrameDataset
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream
from eqff.data.splits import Split, extended, without
from eqff.data.statistics import Statistics, statistics_with_edges
from eqff.data.store.store import Store
from eqff.training.config import DataConfig, RunConfig, TrainingConfig, check_compile
from eqff.training.plan import Kept, Plan
from eqff.training.prepare import decisions
from eqff.training.prepare.baseline import differences
from eqff.training.prepare.foreign import Foreign, read_foreign
from eqff.training.prepare.initial_weights import read_start
from eqff.training.prepare.labels import isolated_sentence, trained_labels, weight_sentence
from eqff.training.prepare.model import beside_the_start, completed, config_as_written, make_model

N_REFERENCE = 50  # frames whose energies by the initial weights are compared with their labels
FEW = 50  # frames, below which a warning is printed


class Prepared(NamedTuple):
    """What a run works with; nothing has been written yet."""

    config: RunConfig  # what the user said
    plan: Plan  # what was decided
    source: Stream
    frames: Frames  # as in the file; a store is read as needed and may be larger than memory
    dataset: FrameDataset  # the same, with differences from a baseline as labels
    model: nn.Module
    foreign: Foreign | None  # frames that show what the run forgets


def prepare(config: RunConfig, folder: Path | None = None, kept: Kept | None = None) -> Prepared:
    """Read the frames, take all decisions of a run, and make its model.

    Args:   folder: of the run, where the results of a baseline are remembered; None: nowhere;
            kept: decisions about a resumed run
    Raises: ConfigError and DataError for what the user has to change
    """
    training, kept = config.training, kept or Kept()
    source, own = _read(config.data)
    start = None if config.init_from is None else read_start(config.init_from)
    foreign = read_foreign(config.data, start)
    n_replayed = 0 if foreign is None else len(foreign.replayed)
    frames = Joined(own, foreign.replayed) if foreign is not None and n_replayed else own
    isolated = isolated_rows(own) if kept.isolated else np.zeros(0, dtype=np.int64)
    split, moved = decisions.divide(config.data, training, own, isolated)
    split = extended(split, n_replayed) if n_replayed else split
    batched = without(split, isolated)
    labels = trained_labels(
        training.loss, frames, batched.train, decisions.used(batched), kept.stress, config.data.train
    )
    labelled, baseline = frames, None
    if config.data.baseline is not None:
        stress = "stress" in labels.names
        labelled, baseline = differences(frames, split, config.data.baseline, stress, folder, config.data.train)
    isolated_atoms(labelled.frames_at(isolated.tolist())).check()
    written = config_as_written(config, frames, () if foreign is None else foreign.species)
    dataset = FrameDataset(labelled, written.species, written.r_max, require=())
    with_edges = dataset.with_edges(np.sort(split.train))
    numbers = statistics_with_edges(with_edges, written.species, written.r_max, kept.isolated)
    model_config = completed(written, config, numbers, start)
    beside = None
    if start is not None and "reference_energies" not in config.model and not numbers.isolated_atoms:
        rows = batched.train[np.linspace(0, len(batched.train) - 1, min(N_REFERENCE, len(batched.train))).astype(int)]
        model_config = beside_the_start(model_config, config, start, labelled.frames_at(rows.tolist()))
        values = zip(model_config.species, model_config.reference_energies, strict=True)
        beside = f"reference energies beside the initial weights (eV): {', '.join(f'{s} {e:.4f}' for s, e in values)}"
    compiles, reason = _compiles(training, dataset, batched, numbers)
    equal = decisions.edges_of_largest(dataset, batched) if compiles else None
    if equal is not None:
        dataset = dataset.with_equal_edges(*equal)
    epochs = decisions.n_epochs(training, dataset, batched) if kept.epochs is None else kept.epochs
    kernels = training.kernels == "auto" and not decisions.uses_gpu(training)
    about_foreign = () if foreign is None else foreign.sentences()
    more = (*about_foreign, *labels.sentences, weight_sentence(numbers), isolated_sentence(numbers), moved)
    model, initial = make_model(model_config, config, start, kernels, share=not compiles or equal is not None)
    plan = Plan(
        split=split,
        isolated=isolated,
        loss=labels.loss,
        statistics=numbers,
        family=config.model["family"],
        model_config=model_config,
        labels=labels.names,
        epochs=epochs,
        validate_every=decisions.interval(training.validate_every, epochs),
        checkpoint_every=decisions.interval(training.checkpoint_every, epochs),
        compile=compiles,
        compiled_kernels=kernels,
        n_edges=None if equal is None else equal[1],
        initial_weights=config.init_from,
        baseline=baseline,
        sentences=_sentences(config, batched, numbers, epochs, (initial, beside, reason, *more)),
        warnings=(*labels.warnings, *_warnings(config, batched)),
    )
    return Prepared(config, plan, source, frames, dataset, model, foreign)


def _read(data: DataConfig) -> tuple[Stream, Frames]:
    options = ReadOptions(
        energy_unit=data.energy_unit,
        length_unit=data.length_unit,
        energy_key=data.energy_key,
        forces_key=data.forces_key,
        stress_key=data.stress_key,
        force_unit=data.force_unit,
        stress_unit=data.stress_unit,
        stress_order=data.stress_order,
        types=data.types,
    )
    source = Stream(data.train, options)
    return source, Store(source.path) if source.is_store else FrameList(list(source))


def _compiles(
    training: TrainingConfig, dataset: FrameDataset, split: Split, numbers: Statistics
) -> tuple[bool, str | None]:
    """Whether the step is compiled, and the sentence about it if the user left that open.

    Raises: ConfigError for training.compile=true where batches differ
    """
    if training.compile != "auto":
        if training.compile:
            check_compile(training, len(split.train))
        return training.compile, None
    reason = decisions.why_eager(training, dataset, split, numbers.avg_num_neighbors)
    if reason is None:
        return True, "training step: compiled as a whole"
    return False, f"training step: not compiled, because {reason}"


def _sentences(
    config: RunConfig, split: Split, numbers: Statistics, epochs: int, more: Sequence[str | None]
) -> tuple[str, ...]:
    preset = None if config.preset is None else f"preset {config.model['family']}-{config.preset}"
    size = f"{len(split.train)} frames train in {epochs} epochs, {len(split.validation)} validate"
    return tuple(sentence for sentence in (preset, *more, size, numbers.report) if sentence is not None)


def _warnings(config: RunConfig, split: Split) -> tuple[str, ...]:
    if len(split.train) >= FEW or config.init_from is not None or config.data.baseline is not None:
        return ()
    return (
        f"{len(split.train)} frames are few to learn forces from; start from a potential (--init-from), learn the "
        "difference from another calculator ([data] baseline), or label more",
    )
