"""One labelled structure in plain numpy, eV and Å: what every reader returns."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eqff.elements import SYMBOLS
from eqff.errors import DataError
from eqff.graph import check_atoms

LABELS = ("energy", "forces", "stress")
WEIGHT = "config_weight"  # name in a file of the weight of a frame in the loss, as in MACE
WEIGHTS = tuple(f"config_{label}_weight" for label in LABELS)  # and of its labels, which are multiplied by it


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame; a label that the file does not contain is None.

    Energies are totals, as in the file (float64: -4,000 eV needs the digits).
    """

    atomic_numbers: np.ndarray  # [n_atoms] int64
    positions: np.ndarray  # [n_atoms, 3] Å, float64
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))  # [3, 3] Å, rows are lattice vectors
    pbc: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=bool))  # [3]
    energy: float | None = None  # eV
    forces: np.ndarray | None = None  # [n_atoms, 3] eV/Å
    stress: np.ndarray | None = None  # [6] eV/Å^3, Voigt xx yy zz yz xz xy, ASE sign
    # what else the file says about the frame; "masses" [n_atoms] u, if it states them
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def config_type(self) -> str | None:
        """What kind of frame it is, where the file says so: config_type=bulk."""
        value = _stated(self.info, "config_type")
        return None if value is None else str(value)

    @property
    def label_weights(self) -> tuple[float, float, float]:
        """Weights of energy, forces and stress in the loss: config_weight times config_energy_weight, ...; default 1.

        Raises: DataError EQ3881 as `label_weights`
        """
        return label_weights(self.info)

    @property
    def is_weighted(self) -> bool:
        """Whether the file gives the frame or a label of it a weight other than 1."""
        given = [_stated(self.info, name) for name in (WEIGHT, *WEIGHTS)]
        return any(value is not None and (not isinstance(value, int | float) or value != 1) for value in given)

    def __repr__(self) -> str:
        labels = [name for name in ("forces", "stress") if getattr(self, name) is not None]
        energy = [] if self.energy is None else [f"energy={self.energy:.6f} eV"]
        periodic = ", periodic" if np.any(self.pbc) else ""
        return f"Frame({hill_formula(self.atomic_numbers)}{periodic}; {', '.join([*energy, *labels]) or 'no labels'})"


@dataclass(frozen=True)
class Census:
    """How many frames have which label, and their compositions."""

    n_frames: int
    n_atoms: int  # over all frames
    labels: dict[str, int]  # label -> number of frames that have it
    periodic: int  # frames periodic in at least one direction
    compositions: dict[str, int]  # formula, Hill order -> number of frames
    weighted: int = 0  # frames with a weight other than 1

    def __str__(self) -> str:
        labels = ", ".join(f"{name} {count}" for name, count in self.labels.items())
        shown = [f"{formula} ({count})" for formula, count in list(self.compositions.items())[:6]]
        if len(self.compositions) > 6:
            shown.append(f"and {len(self.compositions) - 6} more")
        weights = f"; weights: {self.weighted} frames ({WEIGHT}), training obeys them" if self.weighted else ""
        return (
            f"{self.n_frames} frames, {self.n_atoms} atoms; labels: {labels}; periodic: {self.periodic}; "
            f"composition: {', '.join(shown)}{weights}"
        )


class Counter:
    """Takes a census frame by frame."""

    def __init__(self) -> None:
        self.n_frames, self.n_atoms, self.periodic, self.weighted = 0, 0, 0, 0
        self.labels = dict.fromkeys(LABELS, 0)
        self.compositions: dict[bytes, int] = {}  # sorted atomic numbers -> frames

    def add(self, frame: Frame) -> None:
        """Count one frame."""
        self.n_frames += 1
        self.n_atoms += len(frame.atomic_numbers)
        self.periodic += bool(frame.pbc.any())
        for name in LABELS:
            self.labels[name] += getattr(frame, name) is not None
        self.weighted += frame.is_weighted
        composition = np.sort(frame.atomic_numbers).astype(np.uint8).tobytes()
        self.compositions[composition] = self.compositions.get(composition, 0) + 1

    def census(self) -> Census:
        """The census of all frames counted so far."""
        formulas = {hill_formula(np.frombuffer(c, dtype=np.uint8)): n for c, n in self.compositions.items()}
        by_count = sorted(formulas.items(), key=lambda item: (-item[1], item[0]))
        return Census(self.n_frames, self.n_atoms, dict(self.labels), self.periodic, dict(by_count), self.weighted)


def census(frames: Iterable[Frame]) -> Census:
    """Count frames, atoms, labels and compositions."""
    counter = Counter()
    for frame in frames:
        counter.add(frame)
    return counter.census()


def hill_formula(atomic_numbers: np.ndarray) -> str:
    """Formula with C first, then H, then the alphabet; without carbon the alphabet: C2H6O, H2O."""
    numbers, counts = np.unique(np.asarray(atomic_numbers), return_counts=True)
    amount = {SYMBOLS[int(z)]: int(n) for z, n in zip(numbers, counts, strict=True)}
    first = [s for s in ("C", "H") if s in amount] if "C" in amount else []
    order = first + sorted(s for s in amount if s not in first)
    return "".join(s + (str(amount[s]) if amount[s] > 1 else "") for s in order)


def calmest(frames: Iterable[Frame]) -> Frame:
    """Of the frames with most atoms, the one whose largest force component is smallest: a good start for dynamics.

    Args: frames: at least one; frames without forces come last
    """

    def order(frame: Frame) -> tuple[int, float]:
        return -len(frame.atomic_numbers), math.inf if frame.forces is None else float(np.abs(frame.forces).max())

    return min(frames, key=order)


def check_frame(frame: Frame, where: str) -> None:
    """The gate for data: a structure that `eqff.graph.check_atoms` accepts, and labels of the right shape, all finite.

    Args:   where: what to call it in the message, e.g. "water.xyz: frame 12"
    Raises: GraphError for the structure, DataError EQ3001 (shape of a label), EQ3002 (a label is not finite), EQ3881 (a
            weight is no weight)
    """
    check_atoms(frame.positions, frame.atomic_numbers, frame.cell, frame.pbc, where)
    label_weights(frame.info, f"{where}: ")
    for name, shape in (("energy", ()), ("forces", (len(frame.atomic_numbers), 3)), ("stress", (6,))):
        if getattr(frame, name) is None:
            continue
        value = np.asarray(getattr(frame, name))
        if value.shape != shape or value.dtype.kind not in "iuf":
            found = f"shape {value.shape} and dtype {value.dtype}"
            raise DataError(
                "EQ3001", f"{where}: {name} has {found}, expected numbers of shape {shape}; repair the array"
            )
        if not np.isfinite(value).all():
            raise DataError("EQ3002", f"{where}: {name}{_first_bad(value)}; remove the frame or repair the value")


def stated_masses(frame: Frame) -> np.ndarray | None:
    """[n_atoms] u, where the file of the frame states masses, e.g. of isotopes."""
    masses = np.asarray(frame.info.get("masses", ()))
    if masses.dtype.kind not in "iuf" or masses.shape != (len(frame.atomic_numbers),):
        return None
    return masses.astype(np.float64)


def label_weights(info: dict[str, Any], where: str = "") -> tuple[float, float, float]:
    """Weights of energy, forces and stress in the loss, from what a file says about a frame; 1 where it says nothing.

    Args:   where: how the message begins
    Raises: DataError EQ3881 for a weight that is negative or no number
    """
    weights = []
    for name in (WEIGHT, *WEIGHTS):
        value = _stated(info, name)
        try:
            weights.append(1.0 if value is None else float(np.asarray(value, dtype=np.float64).reshape(())))
        except (TypeError, ValueError):
            weights.append(math.nan)
        if not 0.0 <= weights[-1] < math.inf:
            raise DataError("EQ3881", f"{where}{name}={value}: expected a number >= 0; correct it or leave it out")
    common, energy, forces, stress = weights
    return common * energy, common * forces, common * stress


def _stated(info: dict[str, Any], name: str) -> Any:
    """Value of a name in a file, whatever its case; None where it is absent."""
    if name in info:
        return info[name]
    return next((value for key, value in info.items() if str(key).casefold() == name), None)


def _first_bad(value: np.ndarray) -> str:
    if value.ndim < 2:
        return f" is {value.tolist()}"
    atom = int(np.argmax(~np.isfinite(value).all(axis=1)))
    return f": atom {atom} is {value[atom].tolist()}"
