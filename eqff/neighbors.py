"""Neighbour lists: which atoms interact.  Found by vesin, filtered and sorted here; a Verlet skin for dynamics.

    (receiver i, sender j, shift S) is an edge when |r_j - r_i + S @ cell| < r_max, and not (i = j, S = 0)

All edges with all periodic images are kept, also those of an atom with its own image; there is no cap.
The last decision, length < r_max, is taken on one formula from the coordinates as given, with and without a skin:
both give the same edges in the same order, so a potential gives the same numbers, bit for bit.
"""

from typing import Any

import numpy as np
import torch
import vesin

from eqff.errors import ConfigError, GraphError
from eqff.graph import Structure, check_geometry

MIN_DISTANCE = 0.01  # Å; closer atoms are one atom written twice, and forces lose their meaning
SEARCH_MARGIN = 1e-6  # Å, more than the rounding of coordinates up to graph.MAX_COORDINATE
MAX_REACH = 1e4  # Å; the search slows down far above the size of the structure
MAX_GRID_CELLS = 5e4  # half of what vesin allows

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


def neighbor_list(positions: Any, cell: Any, pbc: Any, r_max: float, where: str = "") -> Edges:
    """All edges shorter than r_max.

    Args:    positions [n_atoms, 3] Å; cell [3, 3] Å, rows are lattice vectors, rows of non-periodic axes are ignored;
             pbc [3] bool; r_max Å; where: file and frame, put before error messages
    Returns: senders [n_edges], receivers [n_edges], edge_shift [n_edges, 3], int64, sorted by (receiver, sender, shift)
    Raises:  GraphError for a structure that cannot be searched, and for coincident atoms; ConfigError for r_max
    """
    _check_length("r_max", r_max)
    points, lattice, periodic = _checked(positions, cell, pbc, where)
    edges, length = _search(points, lattice, periodic, r_max)
    _check_distances(edges, length, where)
    return edges


def build_structure(
    positions: Any,
    species: Any,
    cell: Any,
    pbc: Any,
    r_max: float,
    device: str | torch.device = "cpu",
    where: str = "",
) -> Structure:
    """One structure with its edges, as tensors on `device`.

    Args:    species [n_atoms] index into the potential's species; the others as in `neighbor_list`
    Returns: Structure with n_graphs = 1, owning its memory
    Raises:  as `neighbor_list`
    """
    edges = neighbor_list(positions, cell, pbc, r_max, where)
    points, lattice, periodic = np.array(positions, float), np.array(cell, float), np.array(pbc, bool)
    return _structure(points, species, lattice, periodic, edges, device)


class VerletList:
    """Neighbour list of one moving structure, searched anew only when an edge could have been missed.

    Edges up to r_max + skin are kept from the positions x0 and cell h0 of the last search.  With the strain F that
    maps the periodic rows of h0 on those of the present cell h (h0 F = h, identity elsewhere), a vector between two
    atoms changes from d to d F + u_j - u_i, where u = x - x0 F.  No pair outside the list comes closer than r_max while

        2 max |u - mean u| <= (r_max + skin) * smallest singular value of F - r_max

    which is 2 max |displacement| <= skin when the cell is constant.  Positions must be unwrapped: a wrapped atom looks
    like a long jump, which costs a search but gives no wrong edge.

    Args: r_max Å; skin Å, >= 0, 0 searches at every call
    """

    def __init__(self, r_max: float, skin: float) -> None:
        _check_length("r_max", r_max)
        if not (_is_number(skin) and 0 <= skin <= MAX_REACH):
            raise ConfigError(
                "EQ1305", f"skin={skin!r} Å: expected a length from 0 to {MAX_REACH:g}; 0.5 is a good start"
            )
        self.r_max = float(r_max)
        self.skin = float(skin)
        self.n_searches = 0
        self._reference: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # positions, cell, pbc
        self._edges: Edges | None = None

    def structure(
        self, positions: Any, species: Any, cell: Any, pbc: Any, device: str | torch.device = "cpu"
    ) -> Structure:
        """As `build_structure`, with the same result, mostly without a search."""
        points, lattice, periodic = _checked(positions, cell, pbc)
        if self._edges is None or not self._covers(points, lattice, periodic):
            self._reference = self._edges = None  # nothing stale survives a failed search
            self._edges, _ = _search(points, lattice, periodic, self.r_max + self.skin)
            self._reference = (points, lattice, periodic)
            self.n_searches += 1
        length = _edge_length(points, lattice, self._edges)
        keep = length < self.r_max
        senders, receivers, edge_shift = self._edges
        edges = (senders[keep], receivers[keep], edge_shift[keep])
        _check_distances(edges, length[keep])
        return _structure(points, species, lattice, periodic, edges, device)

    def _covers(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
        """Whether every edge of this geometry is in the list (the inequality above)."""
        if self._reference is None:
            return False
        old_positions, old_cell, old_pbc = self._reference
        if positions.shape != old_positions.shape or not np.array_equal(pbc, old_pbc):
            return False
        if len(positions) == 0:
            return True
        strain, stretch = np.eye(3), 1.0
        if not np.array_equal(cell[pbc], old_cell[pbc]):
            inverse = np.linalg.pinv(old_cell[pbc])  # [3, n_periodic]
            strain = inverse @ cell[pbc] + np.eye(3) - inverse @ old_cell[pbc]
            stretch = float(np.linalg.svd(strain, compute_uv=False)[-1])
        moved = positions - old_positions @ strain
        moved -= moved.mean(axis=0)
        farthest = np.sqrt((moved * moved).sum(axis=1).max())
        room = (self.r_max + self.skin) * stretch - self.r_max - SEARCH_MARGIN
        return bool(2.0 * farthest <= room)


def _search(points: np.ndarray, lattice: np.ndarray, periodic: np.ndarray, r_max: float) -> tuple[Edges, np.ndarray]:
    """Edges shorter than r_max, sorted, with their lengths [n_edges] Å."""
    if len(points) == 0:
        return (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64)), np.zeros(0)
    reach = r_max + SEARCH_MARGIN
    compact, box = _compact(points, lattice, periodic, reach)
    searcher = vesin.NeighborList(cutoff=_search_cutoff(box, reach), full_list=True, n_threads=1)
    pairs, shift = searcher.compute(points=compact, box=box, periodic=periodic, quantities="PS")
    pairs, shift = pairs.astype(np.int64), shift.astype(np.int64)
    shift[:, ~periodic] = 0
    edges = (pairs[:, 1], pairs[:, 0], shift)
    length = _edge_length(points, lattice, edges)
    keep = length < r_max
    senders, receivers, edge_shift = pairs[keep, 1], pairs[keep, 0], shift[keep]
    order = np.lexsort((edge_shift[:, 2], edge_shift[:, 1], edge_shift[:, 0], senders, receivers))
    return (senders[order], receivers[order], edge_shift[order]), length[keep][order]


def _compact(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The same neighbours in a small box: positions and a full-rank cell for the search.

    Along directions without lattice, whatever the cell says there, the structure is moved to the origin and empty gaps
    wider than `reach` are closed to `reach`: atoms on their two sides were no neighbours and are none.
    """
    box = cell.copy()
    compact = positions - positions.mean(axis=0)
    if pbc.all():
        return compact, box
    free = np.eye(3)  # orthonormal, orthogonal to all periodic lattice vectors
    if pbc.any():
        free = np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :]
    for axis, direction in zip(np.flatnonzero(~pbc), free, strict=True):
        height = compact @ direction
        order = np.argsort(height)
        step = np.minimum(np.diff(height[order]), reach)
        closed = np.empty_like(height)
        closed[order] = np.concatenate([[0.0], np.cumsum(step)]) + 0.5 * reach
        compact = compact + (closed - height)[:, None] * direction
        box[axis] = (closed.max() + 1.5 * reach) * direction
    return compact, box


def _search_cutoff(box: np.ndarray, reach: float) -> float:
    """`reach`, or more for large flat boxes, where vesin 0.6's limit on grid cells would leave an axis with none."""
    height = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0)  # between lattice planes
    cutoff = reach
    while True:
        n_cells = np.floor(height / cutoff) + 1.0
        scale = np.cbrt(MAX_GRID_CELLS / n_cells.prod())
        if scale >= 1.0 or scale * n_cells.min() >= 2.0:
            return cutoff
        cutoff *= 1.2


def _edge_length(positions: np.ndarray, cell: np.ndarray, edges: Edges) -> np.ndarray:
    """[n_edges] Å.  Term by term, not by matrix products: the bits must not depend on how many edges there are."""
    senders, receivers, edge_shift = edges
    vector = positions[senders] - positions[receivers]
    for axis in range(3):
        if edge_shift[:, axis].any():
            vector += edge_shift[:, axis, None] * cell[axis]
    x, y, z = vector.T
    return np.sqrt(x * x + y * y + z * z)


def _checked(positions: Any, cell: Any, pbc: Any, where: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copies of positions, cell and pbc that passed `check_geometry`."""
    check_geometry(positions, cell, pbc, where)
    return np.array(positions, dtype=np.float64), np.array(cell, dtype=np.float64), np.array(pbc, dtype=bool)


def _check_distances(edges: Edges, length: np.ndarray, where: str = "") -> None:
    if len(length) == 0 or length.min() >= MIN_DISTANCE:
        return
    edge = int(np.argmin(length))
    senders, receivers, edge_shift = edges
    i, j, shift = int(receivers[edge]), int(senders[edge]), edge_shift[edge]
    image = f" (image {tuple(shift.tolist())})" if shift.any() else ""
    at = f"{where}: " if where else ""
    raise GraphError(
        "EQ2109",
        f"{at}positions: atoms {i} and {j}{image} are {length[edge]:.3g} Å apart, expected >= {MIN_DISTANCE} Å; "
        "remove one of the two, or correct the cell or the unit",
    )


def _check_length(name: str, value: float) -> None:
    if not (_is_number(value) and 0 < value <= MAX_REACH):
        raise ConfigError(
            "EQ1301", f"{name}={value!r} Å: expected a length > 0 and <= {MAX_REACH:g}, as the potential's header gives"
        )


def _is_number(value: Any) -> bool:
    """NaN is one, and fails every comparison."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _structure(
    points: np.ndarray,
    species: Any,
    lattice: np.ndarray,
    periodic: np.ndarray,
    edges: Edges,
    device: str | torch.device,
) -> Structure:
    senders, receivers, edge_shift = edges
    n_atoms = len(points)
    species = np.array(species, dtype=np.int64)
    if species.shape != (n_atoms,):
        raise GraphError("EQ2110", f"species: shape {list(species.shape)}, expected [{n_atoms}], one index per atom")
    return Structure(
        positions=torch.tensor(points, device=device),
        species=torch.tensor(species, device=device),
        cell=torch.tensor(lattice[None], device=device),
        pbc=torch.tensor(periodic[None], device=device),
        batch=torch.zeros(n_atoms, dtype=torch.int64, device=device),
        n_graphs=1,
        senders=torch.from_numpy(senders).to(device),
        receivers=torch.from_numpy(receivers).to(device),
        edge_shift=torch.from_numpy(edge_shift).to(device),
    )
