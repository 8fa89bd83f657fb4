"""Structure -> edge vectors.  The flat tensors every model and engine works on, batching, and the input gate."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from eqff.errors import GraphError

Item = TypeVar("Item")

MAX_COORDINATE = 1e7  # Å; farther out a float64 coordinate no longer resolves 1e-9 Å
MIN_LATTICE_VECTOR, MAX_LATTICE_VECTOR = 0.1, 1e5  # Å, periodic directions only
MIN_LATTICE_ANGLE = 1e-6  # smallest singular value of the periodic lattice vectors after each is scaled to length 1
MAX_ATOMIC_NUMBER = 118
REVERSE_ROUNDING = 1e-9  # Å, between an edge vector and that of its reverse
SPLITTING_NORMAL = np.array([1.0, 0.6180339887498949, 0.4142135623730951])  # of a plane that hardly any edge lies in


class Structure(NamedTuple):
    """One or several structures with their edges, as flat tensors.

    edge_vector = r_sender - r_receiver + edge_shift @ cell: it points from the receiving atom to the sender.
    Edges are sorted by (receiver, sender). Lists may be directed: the reverse edge need not exist.
    """

    positions: Tensor  # [n_atoms, 3] Å, float64
    species: Tensor  # [n_atoms] int64, index into the potential's species, not Z
    cell: Tensor  # [n_graphs, 3, 3] Å, float64, rows are lattice vectors, zero where there is none
    pbc: Tensor  # [n_graphs, 3] bool
    batch: Tensor  # [n_atoms] int64, which graph an atom belongs to
    n_graphs: int
    senders: Tensor  # [n_edges] int64
    receivers: Tensor  # [n_edges] int64
    edge_shift: Tensor  # [n_edges, 3] int64, lattice vectors added to the sender


def edge_vectors(structure: Structure) -> Tensor:
    """r_sender - r_receiver + edge_shift @ cell.

    Args:    structure: positions [n_atoms, 3] Å, edge_shift [n_edges, 3] integer, cell [n_graphs, 3, 3] Å
    Returns: [n_edges, 3] Å, float64, differentiable with respect to positions and cell
    """
    positions, receivers = structure.positions, structure.receivers
    vector = positions.index_select(0, structure.senders) - positions.index_select(0, receivers)
    cell = structure.cell  # [1, 3, 3], or [n_edges, 3, 3]
    if structure.n_graphs > 1:
        cell = cell.index_select(0, structure.batch.index_select(0, receivers))
    shift = structure.edge_shift.to(positions.dtype)
    # term by term: the bits of an edge must not depend on its batch, nor on the list it came from
    return vector + (shift[:, 0:1] * cell[:, 0] + shift[:, 1:2] * cell[:, 1] + shift[:, 2:3] * cell[:, 2])


def edge_vectors_numpy(
    positions: np.ndarray, senders: np.ndarray, receivers: np.ndarray, edge_shift: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """The same r_sender - r_receiver + edge_shift @ cell for one structure in numpy.

    Args:    positions [n_atoms, 3] Å; senders, receivers [n_edges]; edge_shift [n_edges, 3]; cell [3, 3] Å
    Returns: [n_edges, 3] Å, equal to `edge_vectors` up to rounding
    """
    vector: np.ndarray = positions[senders] - positions[receivers] + edge_shift @ cell
    return vector


def reverse_pairs(senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of an edge and its reverse in any neighbour list, periodic ones included; on the CPU.

    Args:    senders, receivers [n_edges]; edge_vector [n_edges, 3] Å
    Returns: edges to evaluate [n_rows]; row of every edge [n_edges]; every edge by itself unless all have a reverse
    """
    ends, vector = np.stack([senders.numpy(), receivers.numpy()]), edge_vector.numpy()
    along = vector @ SPLITTING_NORMAL
    alone = torch.arange(ends.shape[1]), torch.arange(ends.shape[1])
    if ends.shape[1] % 2 or np.abs(along).min(initial=1.0) < REVERSE_ROUNDING:
        return alone
    ends = np.where(along > 0.0, ends, ends[::-1])  # as if all edges pointed to one side of the plane
    order = np.lexsort((np.abs(along), ends[1], ends[0]))
    first, second = order[0::2], order[1::2]
    off = np.abs(vector[first] + vector[second]).max(initial=0.0)
    if off > REVERSE_ROUNDING or not np.array_equal(ends[:, first], ends[:, second]):
        return alone
    rows = np.empty_like(order)
    rows[order] = np.arange(len(order)) // 2
    return torch.from_numpy(first.copy()), torch.from_numpy(rows)


def batch_structures(structures: Sequence[Structure]) -> Structure:
    """Several structures as one: atoms, edges and graphs are concatenated, indices are shifted."""
    n_atoms = list(accumulate((s.positions.shape[0] for s in structures[:-1]), initial=0))
    n_graphs = list(accumulate((s.n_graphs for s in structures[:-1]), initial=0))
    return Structure(
        positions=torch.cat([s.positions for s in structures]),
        species=torch.cat([s.species for s in structures]),
        cell=torch.cat([s.cell for s in structures]),
        pbc=torch.cat([s.pbc for s in structures]),
        batch=torch.cat([s.batch + g for s, g in zip(structures, n_graphs, strict=True)]),
        n_graphs=sum(s.n_graphs for s in structures),
        senders=torch.cat([s.senders + a for s, a in zip(structures, n_atoms, strict=True)]),
        receivers=torch.cat([s.receivers + a for s, a in zip(structures, n_atoms, strict=True)]),
        edge_shift=torch.cat([s.edge_shift for s in structures]),
    )


def grouped(items: Iterable[Item], size: Callable[[Item], int], limit: int) -> Iterator[list[Item]]:
    """Consecutive items in groups whose sizes sum to at most `limit`; a larger item has a group to itself.  Lazy."""
    group: list[Item] = []
    total = 0
    for item in items:
        more = size(item)
        if group and total + more > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += more
    if group:
        yield group


def n_edges(structure: Structure) -> int:
    """Size of a structure in a batch: its number of edges, or of atoms if that is larger."""
    return max(structure.senders.shape[0], structure.positions.shape[0])


def check_atoms(positions: Any, atomic_numbers: Any, cell: Any, pbc: Any, where: str = "") -> None:
    """The input gate: refuse a structure that a model cannot evaluate, naming the atom and the remedy.

    `eqff.neighbors` refuses coincident atoms, `eqff.elements` unknown species.

    Args:   positions [n_atoms, 3] Å; atomic_numbers [n_atoms] Z; cell [3, 3] Å, rows are lattice vectors; pbc [3] bool;
            where: file and frame, put before the message
    Raises: GraphError EQ2102 shapes, EQ2103 not finite, EQ2104 too far, EQ2105, EQ2106, EQ2112 cell, EQ2107 atomic
            numbers, EQ2108 no atoms, EQ2111 not numbers
    """
    check_geometry(positions, cell, pbc, where)
    n_atoms = len(positions)
    numbers = _array("atomic_numbers", atomic_numbers, (n_atoms,), where)
    if n_atoms == 0:
        raise GraphError("EQ2108", f"{_at(where)}positions: n_atoms=0; give at least one atom")
    wrong = ~((numbers >= 1) & (numbers <= MAX_ATOMIC_NUMBER) & (numbers == np.floor(numbers)))  # also true for NaN
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise GraphError(
            "EQ2107",
            f"{_at(where)}atomic_numbers: atom {atom} has Z={numbers[atom]:g}, expected an integer from 1 to "
            f"{MAX_ATOMIC_NUMBER}; give every atom its element, remove dummy atoms",
        )


def check_geometry(positions: Any, cell: Any, pbc: Any, where: str = "") -> None:
    """The checks of `check_atoms` on positions, cell and pbc.  Zero atoms pass."""
    check_positions(positions, where)
    check_cell(cell, pbc, where)


def check_positions(positions: Any, where: str = "") -> np.ndarray:
    """The part of the gate that every step needs.

    Returns: [n_atoms, 3] Å, float64, the given array itself if it has this dtype
    Raises:  GraphError EQ2102, EQ2103, EQ2104, EQ2111
    """
    points = _array("positions", positions, (None, 3), where)
    if np.abs(points).max(initial=0.0) <= MAX_COORDINATE:  # false for NaN, too
        return points
    if not np.isfinite(points).all():
        atom = int(np.argmax(~np.isfinite(points).all(axis=1)))
        raise GraphError(
            "EQ2103",
            f"{_at(where)}positions: atom {atom} is not finite {_row(points[atom])}; "
            "remove the frame or repair the coordinate; in a simulation, take a smaller time step",
        )
    atom = int(np.argmax(np.abs(points).max(axis=1)))
    raise GraphError(
        "EQ2104",
        f"{_at(where)}positions: atom {atom} is at {_row(points[atom])}, expected |coordinate| <= "
        f"{MAX_COORDINATE:g} Å; check the unit, or move the structure to the origin",
    )


def check_cell(cell: Any, pbc: Any, where: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The part of the gate that a changed cell needs.

    Returns: cell [3, 3] Å, float64, and pbc [3] bool, copies
    Raises:  GraphError EQ2102, EQ2105, EQ2106, EQ2111, EQ2112
    """
    lattice = _array("cell", cell, (3, 3), where).copy()
    periodic = _array("pbc", pbc, (3,), where) != 0
    if not np.isfinite(lattice).all():
        vector = int(np.argmax(~np.isfinite(lattice).all(axis=1)))
        raise GraphError(
            "EQ2105",
            f"{_at(where)}cell: lattice vector {vector} is not finite {_row(lattice[vector])}; "
            "repair it, or set pbc=False and a zero vector",
        )
    if periodic.any():
        _check_lattice(lattice, periodic, where)
    return lattice, periodic


def _check_lattice(lattice: np.ndarray, periodic: np.ndarray, where: str) -> None:
    """Periodic lattice vectors must have a length and span as many dimensions as there are of them."""
    length = np.linalg.norm(lattice, axis=1)
    wrong = periodic & ((length < MIN_LATTICE_VECTOR) | (length > MAX_LATTICE_VECTOR))
    if wrong.any():
        vector = int(np.argmax(wrong))
        raise GraphError(
            "EQ2106",
            f"{_at(where)}cell: pbc={periodic.tolist()} but lattice vector {vector} is {_row(lattice[vector])}, length "
            f"{length[vector]:g} Å, expected {MIN_LATTICE_VECTOR:g} to {MAX_LATTICE_VECTOR:g} Å; "
            f"give the vector, or set pbc=False for axis {vector}",
        )
    unit = lattice[periodic] / length[periodic, None]
    n_periodic = len(unit)
    rank = int((np.linalg.svd(unit, compute_uv=False) > MIN_LATTICE_ANGLE).sum())
    if rank < n_periodic:
        rows = ", ".join(_row(vector) for vector in lattice[periodic])
        raise GraphError(
            "EQ2112",
            f"{_at(where)}cell: rank {rank}, but {n_periodic} directions are periodic (vectors {rows}); "
            "give linearly independent lattice vectors, or set pbc=False where there is no lattice",
        )


def _array(name: str, value: Any, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """`value` as float64 of the expected shape (None, first: any length)."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GraphError(
            "EQ2111", f"{_at(where)}{name}: not an array of numbers {_text(shape)} ({error}); give plain numbers"
        ) from error
    found = array.shape
    if found != shape and (len(found) != len(shape) or shape[0] is not None or found[1:] != shape[1:]):
        raise GraphError(
            "EQ2102", f"{_at(where)}{name}: shape {list(found)}, expected {_text(shape)}; give one row per atom"
        )
    return array


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("n_atoms" if n is None else str(n) for n in shape) + "]"


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _row(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:g}" for x in vector) + ")"
