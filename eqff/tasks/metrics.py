"""Errors of predictions against labels; every number's name ends in its unit.

energy          total energy of a structure           meV
energy_per_atom the same divided by its atoms         meV
forces          components                            meV/Å
forces_norm     difference of the lengths             meV/Å
forces_vector   length of the difference              meV/Å
stress          components xx yy zz yz xz xy          GPa
"""

import math
from typing import Any

import numpy as np
from ase import units

from eqff.artifact.potential import Prediction
from eqff.data.frame import Frame

# name -> (suffix of its metrics, unit on the screen, factor from eV, eV/Å, eV/Å^3)
QUANTITIES = {
    "energy": ("meV", "meV", 1e3),
    "energy_per_atom": ("meV", "meV/atom", 1e3),
    "forces": ("meV_A", "meV/Å", 1e3),
    "forces_norm": ("meV_A", "meV/Å", 1e3),
    "forces_vector": ("meV_A", "meV/Å", 1e3),
    "stress": ("GPa", "GPa", 1.0 / units.GPa),
}


def pairs(prediction: Prediction, labels: Frame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label and prediction of every quantity that both have, finite labels only, as flat arrays in eV and Å."""
    found: dict[str, tuple[Any, Any]] = {}
    if labels.energy is not None:
        n_atoms = len(labels.atomic_numbers)
        found["energy"] = (labels.energy, prediction.energy)
        found["energy_per_atom"] = (labels.energy / n_atoms, prediction.energy / n_atoms)
    if labels.forces is not None and np.shape(labels.forces) == prediction.forces.shape:
        found["forces"] = (labels.forces, prediction.forces)
    if labels.stress is not None and prediction.stress is not None:
        found["stress"] = (labels.stress, prediction.stress)
    flat = {}
    for name, both in found.items():
        label, value = (np.asarray(one, dtype=float).reshape(-1) for one in both)
        keep = np.isfinite(label)
        if keep.any():
            flat[name] = (label[keep], value[keep])
    return flat


class ErrorSums:
    """MAE, RMSE and largest error of a stream of frames.

    Args: sums: quantity -> [n, sum of |error|, sum of squares, largest], to continue with
    """

    def __init__(self, sums: dict[str, list[float]] | None = None) -> None:
        self.sums = {name: list(values) for name, values in (sums or {}).items()}

    def add(self, prediction: Prediction, labels: Frame) -> None:
        """One more frame."""
        for name, (label, value) in pairs(prediction, labels).items():
            error = np.abs(value - label)
            n, total, squares, largest = self.sums.get(name, [0, 0.0, 0.0, 0.0])
            self.sums[name] = [
                n + len(error),
                total + float(error.sum()),
                squares + float((error**2).sum()),
                max(largest, float(error.max())),
            ]

    def metrics(self) -> dict[str, float]:
        """energy_mae_meV, energy_rmse_meV, energy_max_meV, energy_n, ..., for the quantities that occurred."""
        found: dict[str, float] = {}
        for name, (n, total, squares, largest) in self.sums.items():
            suffix, _, factor = QUANTITIES[name]
            found[f"{name}_mae_{suffix}"] = total / n * factor
            found[f"{name}_rmse_{suffix}"] = math.sqrt(squares / n) * factor
            found[f"{name}_max_{suffix}"] = largest * factor
            found[f"{name}_n"] = n
        return found


def error_metrics(name: str, label: np.ndarray, value: np.ndarray) -> dict[str, float]:
    """MAE, RMSE, largest error and R2 = 1 - sum (value - label)^2 / sum (label - mean label)^2 of one quantity.

    Args:    name: in QUANTITIES; label, value [n], n >= 1, in eV, eV/Å or eV/Å^3
    Returns: <name>_mae_<unit> and so on; <name>_r2 is NaN where labels do not vary
    """
    suffix, _, factor = QUANTITIES[name]
    error = value - label
    spread = float(((label - label.mean()) ** 2).sum())
    return {
        f"{name}_mae_{suffix}": float(np.abs(error).mean()) * factor,
        f"{name}_rmse_{suffix}": float(np.sqrt((error**2).mean())) * factor,
        f"{name}_max_{suffix}": float(np.abs(error).max()) * factor,
        f"{name}_r2": 1.0 - float((error**2).sum()) / spread if spread > 0 else math.nan,
        f"{name}_n": len(label),
    }
