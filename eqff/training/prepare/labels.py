"""Which labels a run is trained on: by default all that frames have, and a line says so about each."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from eqff.data.frame import LABELS, WEIGHT
from eqff.data.frame_list import Frames
from eqff.data.statistics import Statistics
from eqff.errors import DataError
from eqff.training.config import LossConfig

STRESS = 3.0  # weight of the stress where the user gives none; that of si-nequip


class TrainedLabels(NamedTuple):
    """Decisions about the labels of a run."""

    names: tuple[str, ...]  # that are trained on
    loss: LossConfig  # with a weight for each
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def trained_labels(
    loss: LossConfig, frames: Frames, train: np.ndarray, used: np.ndarray, stress: float | None, where: str
) -> TrainedLabels:
    """Decide what is trained on.

    Args:    train, used [n]: frames that train, and that train or validate, without isolated atoms;
             stress: weight that a resumed run had; where: name of the file
    Raises:  DataError EQ3880 if no training frame has a label with a weight
    """
    has = {label: frames.has(label) for label in LABELS}
    if loss.stress is None:
        default = STRESS if has["stress"][train].any() else 0.0
        loss = dataclasses.replace(loss, stress=default if stress is None else stress)
    weights = {"energy": loss.energy_per_atom, "forces": loss.forces, "stress": loss.stress or 0.0}
    names = tuple(label for label in LABELS if weights[label] > 0.0 and has[label][train].any())
    if not names:
        found = {label: int(has[label][train].sum()) for label in LABELS}
        shown = ", ".join(f"{label} in {n} (weight {weights[label]:g})" for label, n in found.items())
        raise DataError(
            "EQ3880",
            f"{where}: {len(train)} training frames have no label to train on: {shown}; compute energies or "
            "forces, or give their names in extended XYZ: --set data.energy_key=NAME, data.forces_key=NAME",
        )
    sentences = [_sentence(label, int(has[label][used].sum()), len(used), weights, loss) for label in LABELS]
    warnings = []
    if not has["forces"][train].any():
        warnings.append(
            "no training frame has forces, and energies alone need many more frames; if extended XYZ has them under "
            "another name, --set data.forces_key=NAME"
        )
    if not has["energy"][train].any():
        warnings.append("no training frame has an energy: energies of the potential have an arbitrary constant")
    return TrainedLabels(names, loss, tuple(sentences), tuple(warnings))


def _sentence(label: str, n_labelled: int, n_frames: int, weights: Mapping[str, float], loss: LossConfig) -> str:
    if n_labelled == 0:
        return f"{label}: none of {n_frames} frames has it"
    key = "energy_per_atom" if label == "energy" else label
    if weights[label] == 0.0:
        return (
            f"{label}: {n_labelled} of {n_frames} frames, not trained on because training.loss.{key} = 0; "
            f"--set training.loss.{key}={STRESS if label == 'stress' else 1.0:g} trains on it"
        )
    final = loss.final_energy_per_atom if label == "energy" else None
    rise = "" if final is None else f" to {final:g}"
    return f"{label}: {n_labelled} of {n_frames} frames, trained on (training.loss.{key} = {weights[label]:g}{rise})"


def weight_sentence(numbers: Statistics) -> str | None:
    """What is said about weights of frames.  Raises: DataError EQ3882 if all are 0"""
    low, high = numbers.weight_range
    if high == 0.0:
        raise DataError(
            "EQ3882", f"{WEIGHT}=0 for all training frames: nothing is left to train on; raise some of them"
        )
    return None if low == high == 1.0 else f"weights: {WEIGHT} of the file, {low:g} to {high:g}, multiplies the loss"


def isolated_sentence(numbers: Statistics) -> str | None:
    """What is said about isolated atoms."""
    if not numbers.isolated_atoms:
        return None
    energies = ", ".join(f"{symbol} {energy:.4f} eV" for symbol, energy in numbers.isolated_atoms.items())
    return f"isolated atoms: {energies}; the potential gives them exactly, they never validate"
