"""Neighbour lists: which atoms interact.  vesin finds pairs, which are filtered and sorted here; a skin for dynamics.

    (receiver i, sender j, shift S) is an edge when |r_j - r_i + S @ cell| < r_max, and not (i = j, S = 0)

All edges with all periodic images are kept, also those of an atom with its own image; there is no cap.
The last decision, length < r_max, is taken on one formula from the coordinates as given, with and without a skin:
both give the same edges in the same order, so a potential gives the same numbers, bit for bit.
"""

import math
from typing import Any

import numpy as np
import torch
import vesin
from torch import Tensor

from eqff.errors import ConfigError, GraphError
from eqff.graph import Structure, check_cell, check_positions

MIN_DISTANCE = 0.01  # Å; closer atoms are duplicates, and forces lose their meaning
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
    return _checked_edges(positions, cell, pbc, r_max, where)[3]


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
    points, lattice, periodic, edges = _checked_edges(positions, cell, pbc, r_max, where)
    return _structure(points, species, lattice, periodic, edges, device)


class VerletList:
    """Neighbour list of one moving structure, searched again only when an edge could be missing.

    Edges up to r_max + skin are kept from the positions x0 and cell h0 of the last search.  With the strain F that
    maps the periodic rows of h0 on those of the present cell h (h0 F = h, identity elsewhere), a vector between two
    atoms changes from d to d F + u_j - u_i, where u = x - x0 F.  No pair outside the list comes closer than r_max while

        2 max |u - mean u| <= (r_max + skin) * smallest singular value of F - r_max

    which is 2 max |displacement| <= skin when the cell is constant.  Positions must be unwrapped: a wrapped atom looks
    like a long jump, which costs a search but gives no wrong edge.

    Between two calls only the positions are expected to change: all other tensors are the same objects until the edges,
    the species or the cell change, so what is derived from them can be kept as long.  Do not write into them.

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
        self._reference: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # positions, cell, pbc of the search
        self._edges = _no_edges()  # up to r_max + skin
        self._offset: np.ndarray | None = None  # of self._edges, in self._cell
        self._cell, self._pbc = np.zeros((0, 3)), np.zeros(0, dtype=bool)  # equal to no real cell
        self._last: Structure | None = None  # made of self._cell and the next three
        self._keep, self._species, self._device = np.zeros(0, dtype=bool), np.zeros(0), torch.device("cpu")

    def structure(
        self, positions: Any, species: Any, cell: Any, pbc: Any, device: str | torch.device = "cpu"
    ) -> Structure:
        """As `build_structure`, with the same result, mostly without a search."""
        return self.update(positions, species, cell, pbc, device)[0]

    def update(
        self, positions: Any, species: Any, cell: Any, pbc: Any, device: str | torch.device = "cpu"
    ) -> tuple[Structure, Tensor]:
        """`structure`, and its edge vectors [n_edges, 3] Å: to the bit those of `eqff.graph.edge_vectors`."""
        points = check_positions(positions)
        new_cell = not (_same(cell, self._cell) and _same(pbc, self._pbc))
        if new_cell:
            self._cell, self._pbc = check_cell(cell, pbc)
            self._last = None
        new_list = self._reference is None or not self._covers(points, self._cell, self._pbc)
        if new_list:
            self._reference = self._last = None  # nothing stale survives a failed search
            self._edges, _ = _search(points, self._cell, self._pbc, self.r_max + self.skin)
            self._reference = (points.copy(), self._cell, self._pbc)
            self.n_searches += 1
        if new_list or new_cell:
            self._offset = _edge_offset(self._edges[2], self._cell)
        vector, length = _edge_vector(points, self._edges, self._offset)
        keep = length < self.r_max
        kept = np.flatnonzero(keep)
        if len(length) and length.min() < MIN_DISTANCE:
            _check_distances(_rows(self._edges, kept), length[kept])
        device = torch.device(device)
        edge_vector = torch.from_numpy(vector.take(kept, 0)).to(device)
        last = self._last
        if last is None or device != self._device or not _same(species, self._species):
            with torch.inference_mode(False):  # the result is kept for calls outside inference mode
                last = _structure(points, species, self._cell, self._pbc, _rows(self._edges, kept), device)
            self._species, self._device = np.array(species), device
        elif not _same(keep, self._keep):
            with torch.inference_mode(False):
                senders, receivers, edge_shift = _tensors(_rows(self._edges, kept), device)
            last = last._replace(senders=senders, receivers=receivers, edge_shift=edge_shift)
        self._last, self._keep = last, keep
        return last._replace(positions=torch.from_numpy(points.copy()).to(device)), edge_vector

    def _covers(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> bool:
        """Whether every edge of this geometry is in the list (the inequality above)."""
        if self._reference is None:
            return False
        old_positions, old_cell, old_pbc = self._reference
        if positions.shape != old_positions.shape or not (pbc is old_pbc or np.array_equal(pbc, old_pbc)):
            return False
        if len(positions) == 0:
            return True
        stretch = 1.0
        if cell is not old_cell and not np.array_equal(cell[pbc], old_cell[pbc]):
            inverse = np.linalg.pinv(old_cell[pbc])  # [3, n_periodic]
            strain = inverse @ cell[pbc] + np.eye(3) - inverse @ old_cell[pbc]
            stretch = float(np.linalg.svd(strain, compute_uv=False)[-1])
            old_positions = old_positions @ strain
        room = (self.r_max + self.skin) * stretch - self.r_max - SEARCH_MARGIN
        moved = positions - old_positions
        if 2.0 * _longest(moved) <= room:  # sufficient without the mean, and quicker
            return True
        return 2.0 * _longest(moved - moved.mean(axis=0)) <= room


def _checked_edges(
    positions: Any, cell: Any, pbc: Any, r_max: float, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Edges]:
    """Positions, cell and pbc that passed the gate, and the edges."""
    _check_length("r_max", r_max)
    points = check_positions(positions, where)
    lattice, periodic = check_cell(cell, pbc, where)
    edges, length = _search(points, lattice, periodic, r_max)
    _check_distances(edges, length, where)
    return points, lattice, periodic, edges


def _search(points: np.ndarray, lattice: np.ndarray, periodic: np.ndarray, r_max: float) -> tuple[Edges, np.ndarray]:
    """Edges shorter than r_max, sorted, with their lengths [n_edges] Å."""
    if len(points) == 0:
        return _no_edges(), np.zeros(0)
    reach = r_max + SEARCH_MARGIN
    compact, box = _compact(points, lattice, periodic, reach)
    searcher = vesin.NeighborList(cutoff=_search_cutoff(box, reach), full_list=True, n_threads=1)
    pairs, shift = searcher.compute(points=compact, box=box, periodic=periodic, quantities="PS")
    receivers, senders = pairs.T.astype(np.int64)
    shift = shift.astype(np.int64)
    shift[:, ~periodic] = 0
    order = _order(receivers, senders, shift, len(points))
    edges = _rows((senders, receivers, shift), order)
    _, length = _edge_vector(points, edges, _edge_offset(edges[2], lattice))
    keep = np.flatnonzero(length < r_max)
    return _rows(edges, keep), length[keep]


def _order(receivers: np.ndarray, senders: np.ndarray, shift: np.ndarray, n_atoms: int) -> np.ndarray:
    """The order (receiver, sender, shift)."""
    key = receivers * n_atoms + senders
    order = np.argsort(key, kind="stable")
    key = key[order]
    if (key[1:] == key[:-1]).any():  # pairs with several images
        order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], senders, receivers))
    return order


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


def _edge_offset(edge_shift: np.ndarray, cell: np.ndarray) -> np.ndarray | None:
    """edge_shift @ cell [n_edges, 3] Å, None if there is none.

    Term by term, not as a matrix product: the bits must not depend on how many edges there are.
    """
    if not edge_shift.any():
        return None
    a, b, c = np.ascontiguousarray(edge_shift.T, dtype=np.float64)
    return np.stack([a * cell[0, axis] + b * cell[1, axis] + c * cell[2, axis] for axis in range(3)], axis=1)


def _edge_vector(positions: np.ndarray, edges: Edges, offset: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [n_edges, 3] and lengths [n_edges], Å."""
    vector = positions.take(edges[0], 0)
    vector -= positions.take(edges[1], 0)
    if offset is not None:
        vector += offset
    x, y, z = vector.T
    return vector, np.sqrt(x * x + y * y + z * z)


def _longest(vectors: np.ndarray) -> float:
    return math.sqrt(np.einsum("ij,ij->i", vectors, vectors).max())


def _no_edges() -> Edges:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64)


def _rows(edges: Edges, rows: np.ndarray) -> Edges:
    return edges[0].take(rows), edges[1].take(rows), edges[2].take(rows, 0)


def _same(value: Any, known: np.ndarray) -> bool:
    array = np.asarray(value)
    return array.shape == known.shape and (array.tobytes() == known.tobytes() or bool((array == known).all()))


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
            "EQ1301",
            f"{name}={value!r} Å: expected a length > 0 and <= {MAX_REACH:g}, as the potential's header gives; "
            "check that it is in Å",
        )


def _is_number(value: Any) -> bool:
    """NaN is refused, because it fails every comparison."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _structure(
    points: np.ndarray,
    species: Any,
    lattice: np.ndarray,
    periodic: np.ndarray,
    edges: Edges,
    device: str | torch.device,
) -> Structure:
    n_atoms = len(points)
    senders, receivers, edge_shift = _tensors(edges, device)
    species = np.array(species, dtype=np.int64)
    if species.shape != (n_atoms,):
        raise GraphError(
            "EQ2110",
            f"species: shape {list(species.shape)}, expected [{n_atoms}], one index per atom; repair the array",
        )
    return Structure(
        positions=torch.tensor(points, device=device),
        species=torch.tensor(species, device=device),
        cell=torch.tensor(lattice[None], device=device),
        pbc=torch.tensor(periodic[None], device=device),
        batch=torch.zeros(n_atoms, dtype=torch.int64, device=device),
        n_graphs=1,
        senders=senders,
        receivers=receivers,
        edge_shift=edge_shift,
    )


def _tensors(edges: Edges, device: str | torch.device) -> tuple[Tensor, ...]:
    """Senders, receivers, edge_shift."""
    return tuple(torch.from_numpy(array).to(device) for array in edges)
