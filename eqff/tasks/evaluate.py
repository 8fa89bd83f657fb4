"""Errors of a potential on labelled frames: energies, forces and stress, and the frames where they are largest."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from ase.formula import Formula

from eqff.artifact.potential import Potential, Prediction, check_finite
from eqff.data.frame import Frame, hill_formula
from eqff.elements import SYMBOLS
from eqff.engines.ase.baseline import added_to
from eqff.errors import DataError
from eqff.graph import grouped, n_edges
from eqff.tasks.metrics import QUANTITIES, error_metrics, pairs

FORCE_BINS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)  # eV/Å, length of the label
MOSTLY = 4.0  # energy error over what is left of it after alignment, from where pictures show both
NAMES = ("id", "name", "label", "config_type", "key")  # entries of info that identify a frame


class Evaluation(NamedTuple):
    """Errors on a set of frames; numbers of frames and atoms start at 0."""

    n_frames: int
    n_atoms: int
    metrics: dict[str, float]  # every name ends in its unit; r2 has none
    by_element: list[dict[str, Any]]  # of forces
    by_force: list[dict[str, Any]]  # of forces, by the length of the label
    worst_energy: list[dict[str, Any]]  # frames, largest error per atom first
    worst_forces: list[dict[str, Any]]  # frames, longest error of one atom first
    unknown_compositions: list[str]
    alignment: str  # what `energy_aligned` has taken off the errors; "" without energies
    values: dict[str, tuple[np.ndarray, np.ndarray]]  # quantity -> (labels, predictions), flat, eV and Å
    force_elements: np.ndarray  # [n] Z of each row of forces_vector


def evaluate(
    potential: Potential,
    frames: Sequence[Frame],
    where: str = "data",
    n_worst: int = 10,
    max_edges: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    add: str | None = None,
) -> Evaluation:
    """Predict every frame and compare.

    Args:    potential; frames with labels; where: their name in messages; n_worst: number of worst frames to name;
             max_edges: of one batch; progress: called with (frames done, all frames);
             add: dispersion, e.g. "d3:PBE"
    Returns: Evaluation
    Raises:  DataError EQ3110 without labels; GraphError or RunError naming a frame the potential cannot take;
             PotentialError for a baseline that cannot be made, or fails for a frame
    """
    if not any(f.energy is not None or f.forces is not None or f.stress is not None for f in frames):
        raise DataError(
            "EQ3110",
            f"{where}: no energies, forces or stress to compare with; name them with --energy-key, --forces-key or "
            "--stress-key",
        )
    names = [f"{where}: frame {index}" for index in range(len(frames))]
    structures = (
        potential.structure(f.positions, f.atomic_numbers, f.cell, f.pbc, name)
        for f, name in zip(frames, names, strict=True)
    )
    predictions: list[Prediction] = []
    baseline = added_to(potential, dispersed=add)
    for batch in grouped(structures, n_edges, potential.max_edges(max_edges)):
        for prediction in potential.predict_batch(batch):
            number = len(predictions)
            check_finite(prediction, names[number])
            if baseline is not None:
                frame = frames[number]
                plain = (frame.positions, frame.atomic_numbers, frame.cell, frame.pbc)
                prediction = baseline.added(prediction, *plain, names[number])
            predictions.append(prediction)
        if progress is not None:
            progress(len(predictions), len(frames))
    return compare(potential, frames, predictions, n_worst)


def compare(
    potential: Potential, frames: Sequence[Frame], predictions: Sequence[Prediction], n_worst: int = 10
) -> Evaluation:
    """Only the comparison."""
    collected: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in QUANTITIES}
    compositions, elements = [], []  # of every energy, of every row of forces
    worst_energy, worst_forces = [], []
    for index, (frame, prediction) in enumerate(zip(frames, predictions, strict=True)):
        found = pairs(prediction, frame)
        for name, both in found.items():
            collected[name].append(both)
        who = {"frame": index, "formula": hill_formula(frame.atomic_numbers), **_names(frame)}
        if "energy_per_atom" in found:
            label, value = found["energy_per_atom"]
            compositions.append(who["formula"])
            worst_energy.append({**who, "energy_per_atom_error_meV": float(value[0] - label[0]) * 1e3})
        if frame.forces is None:
            continue
        lengths, errors = _lengths(frame.forces, prediction.forces)
        collected["forces_norm"].append(lengths)
        collected["forces_vector"].append((np.zeros(len(errors)), errors))
        elements.append(frame.atomic_numbers)
        atom = int(errors.argmax())
        who |= {"atom": atom, "element": SYMBOLS[frame.atomic_numbers[atom]]}
        worst_forces.append({**who, "forces_vector_error_meV_A": float(errors[atom]) * 1e3})
    values = {
        name: (np.concatenate([label for label, _ in both]), np.concatenate([value for _, value in both]))
        for name, both in collected.items()
        if both
    }
    metrics, alignment = _metrics(values), ""
    if "energy" in values:
        label, value = values["energy"]
        shift, alignment = offsets(value - label, compositions)
        n_atoms = np.array([sum(Formula(formula).count().values()) for formula in compositions])
        metrics |= _aligned(value - label, shift, n_atoms)
        if _other_level(metrics):
            values["energy_per_atom_aligned"] = (label / n_atoms, (value - shift) / n_atoms)
    force_elements = np.concatenate(elements) if elements else np.zeros(0, dtype=np.int64)
    return Evaluation(
        n_frames=len(frames),
        n_atoms=sum(len(frame.atomic_numbers) for frame in frames),
        metrics=metrics,
        by_element=_by_element(values, force_elements),
        by_force=_by_force(values),
        worst_energy=_largest(worst_energy, "energy_per_atom_error_meV", n_worst),
        worst_forces=_largest(worst_forces, "forces_vector_error_meV_A", n_worst),
        unknown_compositions=_unknown(potential, frames),
        alignment=alignment,
        values=values,
        force_elements=force_elements,
    )


def _metrics(values: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (label, value) in values.items():
        found |= error_metrics(name, label, value)
        if name == "forces_vector":
            del found["forces_vector_r2"]  # the labels are zero
    return found


def offsets(error: np.ndarray, formulas: Sequence[str]) -> tuple[np.ndarray, str]:
    """What another level of theory, or a composition that was not trained, adds to energies.

    Args:    error [n] eV; formulas: of the n frames
    Returns: ([n] eV, in words): the mean error of each composition, if there are about two frames for each; else a
             shift for each element by least squares, if there are two frames for each; else the mean error
    """
    names = sorted(set(formulas))
    rows = np.array([names.index(formula) for formula in formulas])
    if 2 * len(names) <= len(error) + 1:
        means = np.bincount(rows, weights=error) / np.bincount(rows)
        return means[rows], "the mean error of each composition"
    counts = [Formula(formula).count() for formula in formulas]
    elements = sorted(set().union(*counts))
    if 2 * len(elements) <= len(error):
        table = np.array([[count.get(element, 0) for element in elements] for count in counts], dtype=float)
        return table @ np.linalg.lstsq(table, error, rcond=None)[0], "a least-squares shift for each element"
    return np.full(len(error), error.mean()), "the mean error"


def _aligned(error: np.ndarray, shift: np.ndarray, n_atoms: np.ndarray) -> dict[str, float]:
    left = (error - shift) * 1e3
    return {
        "energy_mean_error_meV": float(error.mean()) * 1e3,
        "energy_aligned_mae_meV": float(np.abs(left).mean()),
        "energy_aligned_rmse_meV": float(np.sqrt((left**2).mean())),
        "energy_per_atom_aligned_mae_meV": float(np.abs(left / n_atoms).mean()),
        "energy_per_atom_aligned_rmse_meV": float(np.sqrt(((left / n_atoms) ** 2).mean())),
    }


def _other_level(metrics: dict[str, float]) -> bool:
    """Whether most of the error is an offset, as between levels of theory."""
    whole, left = metrics["energy_per_atom_mae_meV"], metrics["energy_per_atom_aligned_mae_meV"]
    return whole > MOSTLY * left and whole > 1.0


def _by_element(values: dict[str, tuple[np.ndarray, np.ndarray]], elements: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for z in np.unique(elements):
        chosen = elements == z
        rows.append({"element": SYMBOLS[z], **_forces(values, chosen)})
    return rows


def _by_force(values: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, Any]]:
    if "forces_norm" not in values:
        return []
    length = values["forces_norm"][0]
    rows = []
    for low, high in pairwise(FORCE_BINS):
        chosen = (length >= low) & (length < high)
        if chosen.any():
            mean = float(length[chosen].mean())
            row = _forces(values, chosen)
            relative = row["forces_vector_mae_meV_A"] * 1e-3 / mean if mean > 0 else math.nan
            bounds = {"from_eV_A": low, "to_eV_A": high if math.isfinite(high) else None}
            rows.append({**bounds, **row, "relative_error": relative})
    return rows


def _forces(values: dict[str, tuple[np.ndarray, np.ndarray]], chosen: np.ndarray) -> dict[str, Any]:
    """Errors of the forces on some atoms."""
    label, value = (both.reshape(-1, 3)[chosen].reshape(-1) for both in values["forces"])
    components = error_metrics("forces", label, value)
    vectors = values["forces_vector"][1][chosen]
    return {
        "n_atoms": int(chosen.sum()),
        **{name: components[name] for name in ("forces_mae_meV_A", "forces_rmse_meV_A", "forces_max_meV_A")},
        "forces_vector_mae_meV_A": float(vectors.mean()) * 1e3,
    }


def _lengths(label: np.ndarray, value: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((length of label, length of prediction), length of the difference), [n_atoms] each, eV/Å."""
    error = np.linalg.norm(value - label, axis=1)
    return (np.linalg.norm(label, axis=1), np.linalg.norm(value, axis=1)), error


def _largest(rows: list[dict[str, Any]], key: str, n: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -abs(row[key]))[:n]


def _names(frame: Frame) -> dict[str, Any]:
    """The name of this frame in its file."""
    return {name: str(frame.info[name]) for name in NAMES if name in frame.info}


def _unknown(potential: Potential, frames: Sequence[Frame]) -> list[str]:
    """Formulas whose energies contain an unknown constant."""
    counts: dict[str, list[int]] = {}
    for frame in frames:
        name = hill_formula(frame.atomic_numbers)
        if name not in counts:
            symbols = [SYMBOLS[z] for z in frame.atomic_numbers]
            counts[name] = [symbols.count(symbol) for symbol in potential.species]
    return [name for name, count in counts.items() if not potential.knows_composition(count)]
