from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eqff.data.descriptors import N_RADIAL, Descriptor
from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.errors import ConfigError, GraphError

SPECIES = ("H", "C", "O")


@pytest.fixture(scope="module")
def ethanol(ethanol_file):
    return read_frames(ethanol_file)


@pytest.fixture(scope="module")
def water(water_file):
    return read_frames(water_file)


def by_hand(frame, species, r_max):
    """The formulas of the module over all pairs of neighbours, one after the other."""
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    centre, neighbour, vectors = neighbor_list("ijD", atoms, r_max)
    lengths = np.linalg.norm(vectors, axis=1)
    centres = np.linspace(0.8, r_max, N_RADIAL)
    width = centres[1] - centres[0]
    weights = [
        np.exp(-(((r - centres) / width) ** 2) / 2) * (1 - (r / r_max) ** 2) ** 3 for r in lengths
    ]  # fmt: skip
    symbols = np.array(atoms.get_chemical_symbols())
    rows = []
    for i in range(len(atoms)):
        edges = np.flatnonzero(centre == i).tolist()
        single = [sum((weights[k] for k in edges if symbols[neighbour[k]] == b), np.zeros(N_RADIAL)) for b in species]
        parts = [np.array(single).reshape(-1)]
        for power in (1, 2):
            for b in range(len(species)):
                for c in range(b, len(species)):
                    total = np.zeros(N_RADIAL)
                    for j in edges:
                        for k in edges:
                            if symbols[neighbour[j]] == species[b] and symbols[neighbour[k]] == species[c]:
                                cosine = vectors[j] @ vectors[k] / (lengths[j] * lengths[k])
                                total += weights[j] * weights[k] * cosine**power
                    parts.append(total)
        rows.append(np.concatenate(parts))
    means = [np.mean([row for row, s in zip(rows, symbols, strict=True) if s == a], axis=0) for a in species]
    return np.concatenate([[np.mean(symbols == a) for a in species], *means])


def test_formulas(ethanol):
    descriptor = Descriptor(SPECIES, r_max=3.0)
    descriptor.projection = None
    assert descriptor(ethanol[0]) == pytest.approx(by_hand(ethanol[0], SPECIES, 3.0), rel=1e-10, abs=1e-12)


def test_formulas_with_images(water):
    descriptor = Descriptor(("H", "O"), r_max=2.5)
    small = replace(
        water[0], atomic_numbers=water[0].atomic_numbers[:9], positions=water[0].positions[:9], forces=None,
        cell=water[0].cell * 0.5,
    )  # fmt: skip
    assert descriptor(small) == pytest.approx(by_hand(small, ("H", "O"), 2.5), rel=1e-9, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), mirrored=st.booleans())
def test_what_does_not_count(ethanol, seed, mirrored):
    random = np.random.default_rng(seed)
    descriptor, frame = Descriptor(SPECIES), ethanol[int(random.integers(20))]
    turn = Rotation.random(random_state=random.integers(2**31)).as_matrix() * (-1 if mirrored else 1)
    order = random.permutation(9)
    other = replace(
        frame,
        atomic_numbers=frame.atomic_numbers[order],
        positions=(frame.positions @ turn + random.normal(size=3) * 100)[order],
        energy=None,
    )
    assert descriptor(other) == pytest.approx(descriptor(frame), rel=1e-9, abs=1e-9)


def test_a_crystal_and_its_supercell(water):
    descriptor, frame = Descriptor(("H", "O"), 4.0), water[0]
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=True) * (2, 1, 1)
    double = Frame(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    assert descriptor(double) == pytest.approx(descriptor(frame), rel=1e-9)


def test_what_does_count(ethanol):
    """Any other geometry, the more the farther; another element; and it is a smooth function."""
    descriptor, frame = Descriptor(SPECIES), ethanol[0]
    here = descriptor(frame)
    direction = np.random.default_rng(0).normal(size=(9, 3))

    def moved(step):
        return np.linalg.norm(descriptor(replace(frame, positions=frame.positions + step * direction)) - here)

    assert moved(1e-4) == pytest.approx(10 * moved(1e-5), rel=0.01)  # linear at first
    assert 0 < moved(1e-3) < moved(1e-2) < moved(1e-1)
    others = [descriptor(other) for other in ethanol[1:]]
    assert min(np.linalg.norm(other - here) for other in others) > moved(1e-2)
    exchanged = replace(frame, atomic_numbers=np.where(frame.atomic_numbers == 8, 6, frame.atomic_numbers))
    assert np.linalg.norm(descriptor(exchanged) - here) > 0.1


def test_neighbours_come_and_go_smoothly():
    """An atom that crosses r_max changes nothing to second order."""
    descriptor = Descriptor(("H",), r_max=4.0)

    def pair(r):
        return descriptor(Frame(atomic_numbers=np.array([1, 1]), positions=np.array([[0.0, 0, 0], [r, 0, 0]])))

    outside = pair(4.1)
    assert np.array_equal(outside, pair(5.0))
    assert outside.tolist() == [1.0] + [0.0] * (len(outside) - 1)
    assert np.abs(pair(4.0 - 1e-3) - outside).max() < 1e-9


def test_long_vectors_are_projected(ethanol):
    descriptor = Descriptor(SPECIES)
    assert (descriptor.full_size, descriptor.size) == (273, 128)
    projected = np.array([descriptor(frame) for frame in ethanol])
    assert np.array_equal(Descriptor(SPECIES)(ethanol[3]), projected[3])  # the same on every machine
    descriptor.projection = None
    full = np.array([descriptor(frame) for frame in ethanol])
    pairs = np.triu_indices(20, 1)
    ratio = np.linalg.norm(projected[pairs[0]] - projected[pairs[1]], axis=1) / np.linalg.norm(
        full[pairs[0]] - full[pairs[1]], axis=1
    )
    assert 0.7 < ratio.min() <= ratio.max() < 1.3


def test_errors(ethanol):
    with pytest.raises(ConfigError, match="EQ1951"):
        Descriptor(SPECIES, r_max=0.5)
    with pytest.raises(GraphError, match="EQ2101"):
        Descriptor(("H", "C"))(ethanol[0])
