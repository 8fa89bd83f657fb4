"""What was decided about a training run, once, before its first step; `RunConfig` is what the user said."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqff.data.splits import Split, without
from eqff.data.statistics import Statistics
from eqff.training.config import LossConfig

logger = logging.getLogger("eqff.training")


class UsedBaseline(NamedTuple):
    """The calculator whose results were subtracted from the labels."""

    record: dict[str, Any]  # for the header of the potential
    file: Path | None  # of a baseline that is a potential


class Kept(NamedTuple):
    """What a resumed run keeps of its first plan, where the user says nothing else."""

    epochs: int | None = None  # None: decided anew, as all of these
    stress: float | None = None  # training.loss.stress
    isolated: bool = True  # whether isolated atoms are recognised, which runs of eqff 0.1 did not do


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decisions of a run, and the sentences that are printed about them.

    Nothing here changes during a run.  plan.json in the run folder keeps `record()`.
    """

    split: Split
    isolated: np.ndarray  # [n] frames that are isolated atoms: in split.train, but in no batch, see fit/lone_atoms
    loss: LossConfig  # with all weights
    statistics: Statistics  # of the training frames, with the reference energies
    family: str
    model_config: Any  # the family's Config, complete
    labels: tuple[str, ...]  # that are trained on, where frames have them
    epochs: int
    validate_every: int  # epochs
    checkpoint_every: int  # epochs
    compile: bool  # the training step as a whole
    compiled_kernels: bool  # for convolutions, if a C++ compiler is found; else the ATen reference
    n_edges: int | None  # of every frame, padded with edges beyond r_max; None: as many as are within r_max
    initial_weights: str | None  # where they come from; None: random
    baseline: UsedBaseline | None
    sentences: tuple[str, ...]  # one or more for each decision that the user did not take
    warnings: tuple[str, ...]

    @property
    def batched(self) -> Split:
        """The split without isolated atoms."""
        return without(self.split, self.isolated) if len(self.isolated) else self.split

    def decided(self) -> dict[str, Any]:
        """Key of the configuration -> the value that the run uses, which may differ from what the user wrote."""
        return {
            "data.n_train": len(self.batched.train),
            "data.n_validation": len(self.batched.validation),
            "training.epochs": self.epochs,
            "training.validate_every": self.validate_every,
            "training.checkpoint_every": self.checkpoint_every,
            "training.compile": self.compile,
            "training.loss.stress": self.loss.stress,
        }

    def log(self) -> None:
        """Print the sentences about all decisions, and the warnings."""
        for sentence in self.sentences:
            logger.info("%s", sentence)
        for warning in self.warnings:
            logger.warning("%s", warning)

    def record(self) -> dict[str, Any]:
        """The plan as plain values, without what split.json, statistics.json and model.json hold."""
        return {
            "decided": self.decided(),
            "labels": list(self.labels),
            "isolated_atoms": self.statistics.isolated_atoms,
            "compiled_kernels": self.compiled_kernels,
            "n_edges": self.n_edges,
            "initial_weights": self.initial_weights,
            "sentences": list(self.sentences),
            "warnings": list(self.warnings),
        }
