"""The input gate, edge vectors and batching."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from eqff.errors import GraphError
from eqff.graph import Structure, batch_structures, check_atoms, edge_vectors, edge_vectors_numpy, reverse_pairs
from eqff.neighbors import build_structure

NAN, INF = float("nan"), float("inf")
WATER = np.array([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
CUBE = np.eye(3) * 10.0


def replaced(array, index, value):
    array = np.array(array, dtype=float)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), [False] * 3),
        (CUBE, [True] * 3),
        (-CUBE, [True] * 3),  # left-handed
        (np.diag([10.0, 10.0, 0.0]), [True, True, False]),
        (np.ones((3, 3)), [False] * 3),  # singular, but nothing is periodic
        (np.array([[5.0, 0, 0], [50, 5, 0], [7, 7, 7]]), [True] * 3),  # very skewed
        (np.array([[4.0, 0, 0], [0, 0, 0], [4, 0, 0]]), [True, False, False]),  # dummy row parallel to the lattice
    ],
)
def test_good_structures_pass(cell, pbc):
    check_atoms(WATER, np.array([8, 1, 1]), cell, pbc)
    check_atoms(WATER.tolist(), [8, 1, 1], cell.tolist(), pbc)
    check_atoms(
        WATER.astype(np.float32)[::-1], np.array([1, 1, 8], dtype=np.int8), np.asfortranarray(cell), np.array(pbc)
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"positions": replaced(WATER, (1, 2), NAN)},
            r"EQ2103: positions: atom 1 is not finite \(0, 0.76, nan\); remove",
        ),
        ({"positions": replaced(WATER, (2, 0), -INF)}, r"EQ2103: positions: atom 2 .*\(-inf,"),
        ({"positions": replaced(WATER, (1, 0), -2e7)}, r"EQ2104: positions: atom 1 is at \(-2e\+07, .*check the unit"),
        ({"positions": WATER[:, :2]}, r"EQ2102: positions: shape \[3, 2\], expected \[n_atoms, 3\]"),
        ({"positions": WATER[None]}, r"EQ2102: positions: shape \[1, 3, 3\]"),
        ({"positions": [["a", "b", "c"]]}, "EQ2111: positions: not an array of numbers"),
        ({"positions": [[0, 0, 0], [0, 0]]}, "EQ2111: positions: not an array of numbers"),
        ({"positions": WATER[:2]}, r"EQ2102: atomic_numbers: shape \[3\], expected \[2\]|EQ2102: atomic_numbers"),
        ({"positions": np.zeros((0, 3)), "atomic_numbers": []}, "EQ2108: positions: n_atoms=0"),
        ({"atomic_numbers": [8, 1, 0]}, "EQ2107: atomic_numbers: atom 2 has Z=0, expected an integer from 1 to 118"),
        ({"atomic_numbers": [8, 119, 1]}, "EQ2107: atomic_numbers: atom 1 has Z=119"),
        ({"atomic_numbers": [-8, 1, 1]}, "EQ2107: atomic_numbers: atom 0 has Z=-8"),
        ({"atomic_numbers": [8, 1.5, 1]}, "EQ2107: atomic_numbers: atom 1 has Z=1.5"),
        ({"atomic_numbers": [8, NAN, 1]}, "EQ2107: atomic_numbers: atom 1 has Z=nan"),
        ({"atomic_numbers": ["O", "H", "H"]}, "EQ2111: atomic_numbers: not an array of numbers"),
        ({"cell": [10.0, 10.0, 10.0]}, r"EQ2102: cell: shape \[3\], expected \[3, 3\]"),
        ({"cell": replaced(CUBE, (1, 1), NAN)}, r"EQ2105: cell: lattice vector 1 is not finite \(0, nan, 0\)"),
        ({"cell": replaced(CUBE, (2, 2), 0)}, r"EQ2106: cell: .*lattice vector 2 is \(0, 0, 0\).*pbc=False for axis 2"),
        ({"cell": CUBE * 1e5}, r"EQ2106: cell: .*lattice vector 0 .*length 1e\+06 Å, expected 0.1 to 100000 Å"),
        ({"cell": np.ones((3, 3))}, r"EQ2112: cell: rank 1, but 3 directions are periodic \(vectors \(1, 1, 1\),"),
        ({"cell": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}, "EQ2112: cell: rank 2, but 3 directions"),
        ({"cell": [[3, 0, 0], [6, 0, 0], [0, 0, 1]], "pbc": [1, 1, 0]}, "EQ2112: cell: rank 1, but 2 directions"),
        ({"pbc": True}, r"EQ2102: pbc: shape \[\], expected \[3\]"),
    ],
)
def test_bad_structures_are_refused_by_name(change, expected):
    structure = {"positions": WATER, "atomic_numbers": [8, 1, 1], "cell": CUBE, "pbc": [True] * 3}
    check_atoms(**structure)
    with pytest.raises(GraphError, match=expected):
        check_atoms(**{**structure, **change})


def test_where_comes_first():
    with pytest.raises(GraphError, match=r"EQ2103: water.xyz, frame 12: positions: atom 0"):
        check_atoms(WATER * NAN, [8, 1, 1], CUBE, [True] * 3, where="water.xyz, frame 12")


def structures():
    rng = np.random.default_rng(0)
    made = []
    for n_atoms, pbc in ((4, [1, 1, 1]), (1, [0, 0, 0]), (3, [1, 0, 1])):
        cell = np.diag(rng.uniform(3, 5, 3)) + rng.uniform(-1, 1, (3, 3))
        positions = rng.uniform(0, 4, (n_atoms, 3))
        made.append(build_structure(positions, rng.integers(0, 2, n_atoms), cell, np.array(pbc, bool), 4.5))
    return made


def test_batch_keeps_every_edge_vector():
    separate = structures()
    batch = batch_structures(separate)
    assert batch.n_graphs == 3
    assert batch.batch.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    assert torch.equal(edge_vectors(batch), torch.cat([edge_vectors(s) for s in separate]))
    assert torch.equal(batch.batch[batch.receivers], batch.batch[batch.senders])
    assert torch.equal(batch.species, torch.cat([s.species for s in separate]))
    order = batch.receivers * batch.positions.shape[0] + batch.senders
    assert bool((order[1:] >= order[:-1]).all()), "sorted by (receiver, sender)"


def test_edge_vectors_by_hand():
    structure = Structure(
        positions=torch.tensor([[0.0, 0, 0], [1, 2, 3]], dtype=torch.float64),
        species=torch.tensor([0, 0]),
        cell=torch.tensor([[[10.0, 0, 0], [1, 10, 0], [0, 0, 10]]], dtype=torch.float64),
        pbc=torch.ones(1, 3, dtype=torch.bool),
        batch=torch.tensor([0, 0]),
        n_graphs=1,
        senders=torch.tensor([1, 0]),
        receivers=torch.tensor([0, 1]),
        edge_shift=torch.tensor([[0, -1, 0], [0, 1, 0]]),
    )
    expected = [[0.0, -8.0, 3.0], [0.0, 8.0, -3.0]]
    assert edge_vectors(structure).tolist() == expected
    positions, senders, receivers = structure.positions.numpy(), structure.senders.numpy(), structure.receivers.numpy()
    vectors = edge_vectors_numpy(positions, senders, receivers, structure.edge_shift.numpy(), structure.cell[0].numpy())
    assert vectors.tolist() == expected


def test_pairs_of_any_neighbour_list():
    """Molecules, rattled and perfect crystals, cells smaller than the cut-off; a cut list shares nothing."""
    crystal, small, water = bulk("NaCl", "rocksalt", a=5.6).repeat(2), bulk("Ti"), molecule("H2O")
    rattled = crystal.copy()
    rattled.rattle(0.1, seed=1)
    for atoms in (crystal, small, water, rattled):
        structure = build_structure(atoms.positions, np.zeros(len(atoms), np.int64), atoms.cell.array, atoms.pbc, 5.0)
        vector = edge_vectors(structure)
        first, rows = reverse_pairs(structure.senders, structure.receivers, vector)
        assert 2 * len(first) == len(rows) == len(structure.senders)
        assert torch.equal(rows[first], torch.arange(len(first)))
        same = vector[first][rows]
        assert bool(((same == vector) | (same == -vector)).all())
        assert torch.bincount(rows).tolist() == [2] * len(first)
        first, rows = reverse_pairs(structure.senders[:-2], structure.receivers[:-2], vector[:-2])
        if len(atoms) != 2:  # the last two edges of the small cell may be a pair
            assert torch.equal(first, torch.arange(len(rows)))
            assert torch.equal(rows, first)
