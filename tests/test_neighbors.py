"""The neighbour list against a sum over all images written from its definition, on the cells that break others."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqff.errors import ConfigError, GraphError
from eqff.graph import edge_vectors
from eqff.neighbors import VerletList, build_structure, neighbor_list


def brute_force(positions, cell, pbc, r_max):
    """Every pair in every image that can be in reach, from the definition; sorted rows (receiver, sender, shift)."""
    periodic = cell[pbc]
    images = [np.zeros(1, int)] * 3
    if pbc.any():
        dual = np.linalg.pinv(periodic)  # [3, n_periodic]; columns are 1 / plane spacing long
        spread = np.ptp(positions @ dual, axis=0)
        for axis, column, width in zip(np.flatnonzero(pbc), dual.T, spread, strict=True):
            n = int(np.ceil(r_max * np.linalg.norm(column) + width)) + 1
            images[axis] = np.arange(-n, n + 1)
    rows = []
    for shift in itertools.product(*images):
        vector = positions[None, :] + np.array(shift) @ cell - positions[:, None]  # [receiver, sender, 3]
        near = np.linalg.norm(vector, axis=2) < r_max
        if not any(shift):
            np.fill_diagonal(near, False)
        rows += [(i, j, *shift) for i, j in np.argwhere(near)]
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, 5)


def as_rows(edges):
    senders, receivers, edge_shift = edges
    return np.column_stack([receivers, senders, edge_shift])


def random_case(seed):
    """Small triclinic cells, left- and right-handed, often smaller than the cutoff; all pbc; atoms in and outside."""
    rng = np.random.default_rng(seed)
    while True:
        cell = np.diag(rng.uniform(2.0, 6.0, 3)) + rng.uniform(-2.0, 2.0, (3, 3))
        if abs(np.linalg.det(cell)) > 8.0:
            break
    if seed % 2:
        cell[rng.integers(3)] *= -1.0
    fractions = rng.uniform(0, 1, (rng.integers(1, 8), 3))
    if seed % 3 == 0:
        fractions += rng.integers(-3, 4, fractions.shape)
    pbc = np.array([True] * 3) if seed % 4 == 0 else rng.integers(0, 2, 3).astype(bool)
    positions = fractions @ cell
    if seed % 5 == 0:
        cell[~pbc] = 0.0
    if seed % 7 == 0:
        cell[~pbc] = rng.normal(size=(int((~pbc).sum()), 3)) * 1e-3
    return positions, cell, pbc, rng.uniform(1.5, 6.0)


def test_equals_brute_force_on_random_cells():
    n_self = n_empty = 0
    for seed in range(200):
        positions, cell, pbc, r_max = random_case(seed)
        expected = brute_force(positions, cell, pbc, r_max)
        found = as_rows(neighbor_list(positions, cell, pbc, r_max))
        assert np.array_equal(found, expected), f"seed {seed}: {len(found)} edges, expected {len(expected)}"
        n_self += int((expected[:, 0] == expected[:, 1]).any())
        n_empty += int(len(expected) == 0)
    assert n_self > 40, "too few cells smaller than the cutoff"
    assert n_empty > 3, "too few cases without edges"


def test_edge_vector_points_from_receiver_to_sender():
    for seed in range(20):
        positions, cell, pbc, r_max = random_case(seed)
        structure = build_structure(positions, np.zeros(len(positions), int), cell, pbc, r_max)
        rows = brute_force(positions, cell, pbc, r_max)
        vector = positions[rows[:, 1]] - positions[rows[:, 0]] + rows[:, 2:] @ cell
        assert np.allclose(edge_vectors(structure).numpy(), vector, atol=1e-12)
        assert structure.senders.dtype == structure.edge_shift.dtype == torch.int64
        assert structure.positions.dtype == structure.cell.dtype == torch.float64
        assert np.array_equal(structure.cell[0].numpy(), cell), "the cell is reported as given"


@given(seed=st.integers(0, 10**6), distance=st.sampled_from([1e4, -1e5, 1e6]), axis=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_far_from_the_origin_nothing_changes(seed, distance, axis):
    positions, cell, pbc, r_max = random_case(seed)
    positions = np.round(positions * 2**20) / 2**20  # so that the move is exact
    moved = positions.copy()
    moved[:, axis] += distance
    expected = as_rows(neighbor_list(positions, cell, pbc, r_max))
    assert np.array_equal(as_rows(neighbor_list(moved, cell, pbc, r_max)), expected)


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.eye(3), -np.eye(3) * 1e-3, np.ones((3, 3)), np.eye(3) * 1e8])
def test_a_cell_without_pbc_is_ignored(cell):
    positions = np.random.default_rng(0).uniform(-5, 5, (30, 3))
    pbc = np.zeros(3, bool)
    rows = as_rows(neighbor_list(positions, cell, pbc, 4.0))
    assert np.array_equal(rows, brute_force(positions, np.zeros((3, 3)), pbc, 4.0))
    assert not rows[:, 2:].any()


def test_atom_displaced_by_lattice_vectors_keeps_its_neighbours():
    positions, cell, pbc, r_max = random_case(4)
    assert pbc.all()
    jump = np.array([[100_000, -3, 7]] + [[0, 0, 0]] * (len(positions) - 1))
    rows = as_rows(neighbor_list(positions, cell, pbc, r_max))
    rows[:, 2:] += jump[rows[:, 0]] - jump[rows[:, 1]]  # r_j + S h - r_i must stay
    found = as_rows(neighbor_list(positions + jump @ cell, cell, pbc, r_max))
    assert sorted(map(tuple, found)) == sorted(map(tuple, rows))


@pytest.mark.parametrize(
    ("pbc", "cell", "flight"),
    [
        ([0, 0, 0], np.zeros((3, 3)), [0, 0, 1e6]),
        ([0, 0, 0], np.eye(3), [9e6, 0, 0]),
        ([1, 1, 0], np.diag([6.0, 6.0, 1.0]), [0, 0, 1e6]),
        ([1, 0, 0], np.diag([6.0, 0.0, 0.0]), [0, 1e5, -1e6]),
        ([0, 0, 0], np.zeros((3, 3)), [9e6, -9e6, 9e6]),
    ],
)
def test_a_fragment_that_flew_away(pbc, cell, flight):
    """One group of atoms very far from the other: the search grid must not grow with the empty space between."""
    pbc = np.array(pbc, bool)
    group = np.round(np.random.default_rng(1).uniform(0.5, 5.5, (12, 3)) * 2**16) / 2**16
    alone = as_rows(neighbor_list(group, cell, pbc, 5.0))
    both = as_rows(neighbor_list(np.concatenate([group, group + flight]), cell, pbc, 5.0))
    assert len(alone) > 50
    second = alone + np.array([12, 12, 0, 0, 0])
    assert np.array_equal(both, np.concatenate([alone, second]))


@pytest.mark.parametrize("lengths", [(6.0, 2000.0, 2000.0), (4.0, 4.0, 1e5), (2.0, 1e5, 1e5)])
def test_large_flat_periodic_cells(lengths):
    """vesin 0.6 divides by zero, and the process dies, where its grid has more than 1e5 cells and one thin axis."""
    positions = np.random.default_rng(2).uniform(0, 1, (6, 3)) * [lengths[0], 9.0, 9.0]
    cell, pbc = np.diag(lengths), np.ones(3, bool)
    assert np.array_equal(as_rows(neighbor_list(positions, cell, pbc, 5.0)), brute_force(positions, cell, pbc, 5.0))


def test_small_cases():
    zero, free = np.zeros((3, 3)), np.zeros(3, bool)
    for positions in (np.zeros((0, 3)), np.zeros((1, 3)), np.array([[0, 0, 0], [0, 0, 9.0]])):
        senders, receivers, edge_shift = neighbor_list(positions, zero, free, 4.0)
        assert len(senders) == len(receivers) == 0
        assert edge_shift.shape == (0, 3)
    one_atom = as_rows(neighbor_list(np.zeros((1, 3)), np.eye(3) * 3.0, np.ones(3, bool), 3.5))
    assert one_atom.tolist() == sorted([0, 0, *s] for s in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)))


def test_cutoff_is_strict():
    positions = np.array([[0.0, 0, 0], [0, 0, 2.0]])
    zero, free = np.zeros((3, 3)), np.zeros(3, bool)
    assert len(neighbor_list(positions, zero, free, 2.0)[0]) == 0
    assert len(neighbor_list(positions, zero, free, np.nextafter(2.0, 3.0))[0]) == 2


def test_coincident_atoms_are_named():
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 1e-4]])
    zero, free = np.zeros((3, 3)), np.zeros(3, bool)
    with pytest.raises(
        GraphError, match=r"EQ2109: water.xyz, frame 3: positions: atoms 1 and 3 are 0.0001 Å apart.*remove"
    ):
        neighbor_list(positions, zero, free, 3.0, where="water.xyz, frame 3")
    with pytest.raises(GraphError, match=r"atoms 1 and 3"):
        VerletList(3.0, 0.5).structure(positions, np.zeros(4, int), zero, free)
    periodic = np.array([[0.0, 0, 0], [0, 0, 4.0]])
    with pytest.raises(GraphError, match=r"atoms 0 and 1 \(image \(0, 0, -1\)\) are 0 Å apart"):
        neighbor_list(periodic, np.eye(3) * 4.0, np.ones(3, bool), 3.0)


def test_bad_input_is_refused():
    zero, free = np.zeros((3, 3)), np.zeros(3, bool)
    with pytest.raises(GraphError, match="EQ2103"):
        neighbor_list(np.array([[0, 0, np.nan], [0, 0, 1.0]]), zero, free, 3.0)
    with pytest.raises(GraphError, match="EQ2106"):
        neighbor_list(np.zeros((1, 3)), zero, np.ones(3, bool), 3.0)
    with pytest.raises(GraphError, match="EQ2110"):
        build_structure(np.zeros((1, 3)), np.zeros(2, int), zero, free, 3.0)
    for r_max in (0.0, -1.0, np.nan, np.inf, 1e9, None, "4"):
        with pytest.raises(ConfigError, match="EQ1301: r_max="):
            neighbor_list(np.zeros((1, 3)), zero, free, r_max)
    for skin in (-0.1, np.nan, 1e9, None, "a"):
        with pytest.raises(ConfigError, match="EQ1305: skin="):
            VerletList(3.0, skin)


def test_structure_owns_its_memory():
    positions, species = np.array([[0.0, 0, 0], [0, 0, 1.0]]), np.array([0, 1])
    for make in (lambda *a: build_structure(*a, 3.0), VerletList(3.0, 0.5).structure):
        structure = make(positions, species, np.zeros((3, 3)), np.zeros(3, bool))
        structure.positions.add_(1.0)
        structure.species.add_(1)
        assert positions[1, 2] == 1.0
        assert species.tolist() == [0, 1]


def same(structure, expected):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(structure, expected, strict=True)
    )


@pytest.mark.parametrize("seed", range(12))
def test_skin_changes_nothing_along_a_random_walk(seed):
    """Positions and, every second walk, the cell drift; the skinned list must give the very same structure."""
    positions, cell, pbc, r_max = random_case(seed)
    rng = np.random.default_rng(seed)
    positions = np.concatenate([positions, positions + rng.uniform(0.3, 0.6, 3)])
    species = rng.integers(0, 3, len(positions))
    verlet = VerletList(r_max, 0.6)
    n_steps = 60
    for _ in range(n_steps):
        positions = positions + rng.normal(size=positions.shape) * 0.06 + [0.5, 0, 0]  # drifts as a whole, too
        if seed % 2:
            strain = np.eye(3) + rng.normal(size=(3, 3)) * 1e-3
            positions, cell = positions @ strain, cell @ strain
        try:
            expected = build_structure(positions, species, cell, pbc, r_max)
        except GraphError:
            continue  # two atoms walked into each other
        assert same(verlet.structure(positions, species, cell, pbc), expected)
    assert 2 <= verlet.n_searches <= n_steps // 2


def test_skin_is_rigorous_at_its_limit():
    """Steps of about half the skin and compression: pairs from outside the list come close, none is missed."""
    pbc, r_max, skin = np.ones(3, bool), 3.0, 1.0
    n_cheap = n_calls = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cell = np.diag(rng.uniform(7, 9, 3)) + rng.uniform(-1, 1, (3, 3))
        positions = rng.uniform(0, 1, (20, 3)) @ cell
        species = np.zeros(20, int)
        for compression in (0.0, 0.01, 0.05, 0.1):
            step = rng.normal(size=(20, 3))
            step *= rng.uniform(0.35, 0.65) / np.linalg.norm(step, axis=1)[:, None]
            strain = np.diag(1 - compression * rng.uniform(0, 1, 3))
            moved, new_cell = (positions + step) @ strain, cell @ strain
            verlet = VerletList(r_max, skin)
            try:
                verlet.structure(positions, species, cell, pbc)
                expected = build_structure(moved, species, new_cell, pbc, r_max)
            except GraphError:
                continue  # coincident atoms
            assert same(verlet.structure(moved, species, new_cell, pbc), expected), f"seed {seed}"
            n_cheap += verlet.n_searches == 1
            n_calls += 1
    assert 0.1 * n_calls < n_cheap < 0.9 * n_calls, "both sides of the limit must be visited"


def test_two_atoms_from_outside_the_list_meet():
    """Head-on from just beyond r_max + skin, while the cell shrinks: the one edge appears exactly when it must."""
    r_max, skin, pbc, species = 3.0, 1.0, np.ones(3, bool), np.zeros(2, int)
    start, cell = np.array([[5.0, 5, 5], [5, 5, 5 + r_max + skin + 1e-3]]), np.eye(3) * 20.0
    outcomes = set()
    for approach in np.linspace(0.3, 0.6, 31):
        for shrink in (1.0, 0.99, 0.97, 0.95, 0.9):
            verlet = VerletList(r_max, skin)
            verlet.structure(start, species, cell, pbc)
            moved = (start + np.array([[0, 0, approach], [0, 0, -approach]])) * shrink
            structure = verlet.structure(moved, species, cell * shrink, pbc)
            assert structure.senders.shape[0] == 2 * (moved[1, 2] - moved[0, 2] < r_max)
            outcomes.add((verlet.n_searches, structure.senders.shape[0]))
    assert outcomes == {(1, 0), (2, 0), (2, 2)}


def test_when_the_list_is_searched_anew():
    positions = np.random.default_rng(0).uniform(0, 8, (20, 3))
    cell, pbc, species = np.eye(3) * 8.0, np.ones(3, bool), np.zeros(20, int)
    verlet = VerletList(3.0, 0.5)

    def n_searches(*structure):
        before = verlet.n_searches
        verlet.structure(*structure)
        return verlet.n_searches - before

    assert n_searches(positions, species, cell, pbc) == 1
    assert n_searches(positions, species + 1, cell, pbc) == 0, "edges do not depend on species"
    assert n_searches(positions + 100.0, species, cell, pbc) == 0, "a translation moves no atom relative to another"
    assert n_searches(positions * 1.001, species, cell * 1.001, pbc) == 0, "a small strain is within the skin"
    nudged = positions.copy()
    nudged[3, 0] += 0.2
    assert n_searches(nudged, species, cell, pbc) == 0
    nudged[3, 0] += 0.2
    assert n_searches(nudged, species, cell, pbc) == 1
    assert n_searches(nudged * 0.8, species, cell * 0.8, pbc) == 1, "strong compression"
    assert n_searches(positions[:-1], species[:-1], cell, pbc) == 1, "number of atoms"
    assert n_searches(positions[:-1], species[:-1], cell, np.array([True, True, False])) == 1, "pbc"
    wrapped = positions[:-1].copy()
    wrapped[0] += cell[0]
    assert n_searches(wrapped, species[:-1], cell, np.array([True, True, False])) == 1, "a wrapped atom"
    with pytest.raises(GraphError):
        verlet.structure(np.full((20, 3), np.nan), species, cell, pbc)
    without = VerletList(3.0, 0.0)
    for _ in range(3):
        without.structure(positions, species, cell, pbc)
    assert without.n_searches == 3


def test_edge_vectors_come_with_the_list_to_the_bit():
    """Also while positions and cell drift, when edges come and go and tensors are reused."""
    n_changes = n_searches = 0
    for seed in range(8):
        positions, cell, pbc, r_max = random_case(seed)
        positions = np.concatenate([positions, positions + np.array([0.4, 0.3, 0.2])])
        rng = np.random.default_rng(seed)
        species, verlet, sizes = rng.integers(0, 3, len(positions)), VerletList(r_max, 0.5), set()
        for step in range(12):
            positions = positions + rng.normal(size=positions.shape) * 0.03
            if step > 6:
                cell = cell * 1.002
            structure, edge_vector = verlet.update(positions, species, cell, pbc)
            assert torch.equal(edge_vector, edge_vectors(structure))
            assert torch.equal(edge_vector, edge_vectors(build_structure(positions, species, cell, pbc, r_max)))
            sizes.add(len(edge_vector))
        n_changes += len(sizes) - 1
        n_searches += verlet.n_searches
    assert n_changes > 10
    assert n_searches < 48


def test_what_stays_the_same_is_the_same_object():
    """So that whoever derives something from edges knows when to do it again."""
    positions = np.array([[0.0, 0, 0], [0, 0, 1.0], [0, 0, 3.4]])
    species, cell, pbc = np.array([0, 1, 1]), np.eye(3) * 9.0, np.ones(3, bool)
    verlet = VerletList(3.5, 1.0)
    first = verlet.structure(positions, species, cell, pbc)
    second = verlet.structure(positions + np.array([[0, 0, 0.01], [0, 0, 0], [0, 0, 0]]), species, cell, pbc)
    for name in ("species", "cell", "pbc", "batch", "senders", "receivers", "edge_shift"):
        assert getattr(second, name) is getattr(first, name)
    assert first.positions[0, 2] == 0.0
    assert second.positions[0, 2] == 0.01
    third = verlet.structure(positions + np.array([[0, 0, -0.2], [0, 0, 0], [0, 0, 0]]), species, cell, pbc)
    assert verlet.n_searches == 1
    assert len(third.senders) == len(first.senders) - 2, "one pair has left"
    assert third.senders is not second.senders
    other = verlet.structure(positions, species[::-1], cell, pbc)
    assert other.species.tolist() == [1, 1, 0]
    larger = verlet.structure(positions, species, cell * 1.01, pbc)
    assert torch.equal(larger.cell[0], torch.tensor(cell * 1.01))
    assert larger.species.tolist() == [0, 1, 1]


def test_nothing_stale_survives_an_error():
    """A refused geometry between two good ones, for every part that is kept."""
    positions = np.array([[0.0, 0, 0], [0, 0, 1.0]])
    species, cell, pbc = np.array([0, 1]), np.eye(3) * 9.0, np.ones(3, bool)
    bad = [
        (positions * np.nan, species, cell, pbc),
        (positions * 0.001, species, cell * 1.01, pbc),  # coincident, in another cell
        (positions, species[:1], cell, pbc),
        (positions, species, np.ones((3, 3)), pbc),
        (positions, species, cell, True),
    ]
    for refused in bad:
        verlet = VerletList(3.0, 2.0)
        verlet.structure(positions, species, cell, pbc)
        for _ in range(2):
            with pytest.raises(GraphError):
                verlet.structure(*refused)
        for good in ((positions, species, cell * 1.01, pbc), (positions, species, cell, pbc)):
            assert same(verlet.structure(*good), build_structure(*good, 3.0))


def test_kept_tensors_can_be_used_after_inference_mode():
    positions, species = np.array([[0.0, 0, 0], [0, 0, 1.0]]), np.array([0, 1])
    verlet = VerletList(3.0, 0.5)
    with torch.inference_mode():
        verlet.structure(positions, species, np.zeros((3, 3)), np.zeros(3, bool))
    structure = verlet.structure(positions + 0.01, species, np.zeros((3, 3)), np.zeros(3, bool))
    assert not any(tensor.is_inference() for tensor in structure if isinstance(tensor, torch.Tensor))


def test_a_large_box_equals_brute_force():
    """Through the grid search and the sort by one key, which small cells with many images do not use."""
    rng = np.random.default_rng(3)
    cell = np.diag([11.0, 12.0, 13.0]) + rng.uniform(-1, 1, (3, 3))
    positions, pbc = rng.uniform(0, 1, (150, 3)) @ cell, np.ones(3, bool)
    rows = as_rows(neighbor_list(positions, cell, pbc, 3.0))
    assert len(rows) > 1000
    assert len(np.unique(rows[:, :2], axis=0)) == len(rows), "no pair in two images"
    assert np.array_equal(rows, brute_force(positions, cell, pbc, 3.0))
