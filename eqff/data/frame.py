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
    info: dict[str, Any] = field(default_factory=dict)

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

    def __str__(self) -> str:
        labels = ", ".join(f"{name} {count}" for name, count in self.labels.items())
        shown = [f"{formula} ({count})" for formula, count in list(self.compositions.items())[:6]]
        if len(self.compositions) > 6:
            shown.append(f"and {len(self.compositions) - 6} more")
        return (
            f"{self.n_frames} frames, {self.n_atoms} atoms; labels: {labels}; periodic: {self.periodic}; "
            f"composition: {', '.join(shown)}"
        )


class Counter:
    """Takes a census frame by frame."""

    def __init__(self) -> None:
        self.n_frames, self.n_atoms, self.periodic = 0, 0, 0
        self.labels = dict.fromkeys(LABELS, 0)
        self.compositions: dict[bytes, int] = {}  # sorted atomic numbers -> frames

    def add(self, frame: Frame) -> None:
        """Count one frame."""
        self.n_frames += 1
        self.n_atoms += len(frame.atomic_numbers)
        self.periodic += bool(frame.pbc.any())
        for name in LABELS:
            self.labels[name] += getattr(frame, name) is not None
        composition = np.sort(frame.atomic_numbers).astype(np.uint8).tobytes()
        self.compositions[composition] = self.compositions.get(composition, 0) + 1

    def census(self) -> Census:
        """The census of all frames counted so far."""
        formulas = {hill_formula(np.frombuffer(c, dtype=np.uint8)): n for c, n in self.compositions.items()}
        by_count = sorted(formulas.items(), key=lambda item: (-item[1], item[0]))
        return Census(self.n_frames, self.n_atoms, dict(self.labels), self.periodic, dict(by_count))


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
    Raises: GraphError for the structure, DataError EQ3001 (shape of a label), EQ3002 (a label is not finite)
    """
    check_atoms(frame.positions, frame.atomic_numbers, frame.cell, frame.pbc, where)
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


def _first_bad(value: np.ndarray) -> str:
    if value.ndim < 2:
        return f" is {value.tolist()}"
    atom = int(np.argmax(~np.isfinite(value).all(axis=1)))
    return f": atom {atom} is {value[atom].tolist()}"
