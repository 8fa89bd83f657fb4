import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list as ase_neighbor_list

from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.data.statistics import reference_energies, statistics
from eqff.errors import ConfigError, DataError, GraphError


def make_frame(symbols, energy=None, forces=None):
    numbers = Atoms(symbols).numbers
    return Frame(
        atomic_numbers=numbers, positions=np.arange(len(numbers))[:, None] * np.ones(3), energy=energy, forces=forces
    )


def test_degree_and_distance_agree_with_ase(water_file):
    frames = read_frames(water_file)
    found = statistics(frames, ("H", "O"), 5.0)  # the cell is 7.8 Å: atoms see several images
    degrees, distances, numbers = [], [], []
    for frame in frames:
        atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        first, distance = ase_neighbor_list("id", atoms, 5.0)
        degrees.append(np.bincount(first, minlength=len(atoms)))
        distances.append(distance.min())
        numbers.append(atoms.numbers)
    degrees, numbers = np.concatenate(degrees), np.concatenate(numbers)
    assert found.avg_num_neighbors == pytest.approx(degrees.mean(), rel=1e-12)
    expected = [degrees[numbers == 1].mean(), degrees[numbers == 8].mean()]
    assert found.avg_num_neighbors_per_species == pytest.approx(expected, rel=1e-12)
    assert found.min_distance == pytest.approx(min(distances), rel=1e-12)


def test_force_rms_over_components(ethanol_file):
    frames = read_frames(ethanol_file)
    found = statistics(frames, ("H", "C", "O", "N"), 4.0)
    forces = np.concatenate([frame.forces for frame in frames])
    numbers = np.concatenate([frame.atomic_numbers for frame in frames])
    assert found.force_rms == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    for value, z in zip(found.force_rms_per_species[:3], (1, 6, 8), strict=True):
        assert value == pytest.approx(np.sqrt((forces[numbers == z] ** 2).mean()), rel=1e-12)
    assert np.isnan(found.force_rms_per_species[3])
    assert np.isnan(found.avg_num_neighbors_per_species[3])


def test_one_composition_fixes_only_the_sum(ethanol_file):
    frames = read_frames(ethanol_file)
    found = statistics(frames, ("H", "C", "O"), 4.0)
    energies = np.array([frame.energy for frame in frames])
    assert found.reference_rank == 1
    assert np.dot(found.reference_energies, [6, 2, 1]) == pytest.approx(energies.mean(), rel=1e-13)
    shortest = energies.mean() * np.array([6, 2, 1]) / 41.0  # the multiple of the composition itself
    assert found.reference_energies == pytest.approx(shortest, rel=1e-12)
    assert found.energy_residual_std == pytest.approx(energies.std() / 9, rel=1e-9)
    assert "rank 1 of 3" in found.report


def test_independent_compositions_give_the_references_back():
    truth = {"H": -13.6, "C": -1029.5, "O": -2042.0}
    compositions = ["H2O", "CH4", "CO2", "C2H6O", "H2"]
    frames = [make_frame(s, sum(truth[a.symbol] for a in Atoms(s))) for s in compositions for _ in range(3)]
    found = statistics(frames, ("O", "H", "C"), 2.0)
    assert found.reference_energies == pytest.approx([truth["O"], truth["H"], truth["C"]], rel=1e-11)
    assert found.reference_rank == 3
    assert found.energy_residual_std == pytest.approx(0.0, abs=1e-10)
    assert "rank" not in found.report


def test_least_squares_equals_numpy_on_all_rows():
    random = np.random.default_rng(0)
    compositions = random.integers(0, 4, size=(200, 3)) + np.array([1, 0, 0])
    energies = compositions @ np.array([-10.0, -100.0, -500.0]) + random.normal(size=200)
    found, rank, residual = reference_energies(compositions, energies, 3)
    expected = np.linalg.lstsq(compositions.astype(float), energies, rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert rank == 3
    assert residual > 0.05


def test_labels_that_are_missing():
    found = statistics([make_frame("H"), make_frame("O")], ("H", "O"), 2.0)
    assert (found.force_rms, found.energy_residual_std, found.min_distance) == (None, None, None)
    assert found.reference_energies == (0.0, 0.0)
    assert found.reference_rank == 0
    assert found.avg_num_neighbors == 0.0
    part = statistics([make_frame("H2", energy=-30.0), make_frame("H2", forces=np.ones((2, 3)))], ("H",), 2.0)
    assert part.reference_energies == pytest.approx((-15.0,))
    assert part.force_rms == pytest.approx(1.0)


def test_errors():
    with pytest.raises(GraphError, match="knows only H"):
        statistics([make_frame("HO")], ("H",), 2.0)
    with pytest.raises(DataError, match="EQ3922"):
        statistics([], ("H",), 2.0)
    with pytest.raises(ConfigError, match="EQ1937"):
        statistics([make_frame("H")], ("H",), 0.0)


def test_the_most_crowded_atom_and_the_longest_force(water_file):
    frames = read_frames(water_file)
    found = statistics(frames, None, 4.0)
    assert found.species == ("H", "O")
    degrees = [
        np.bincount(ase_neighbor_list("i", Atoms(f.atomic_numbers, f.positions, cell=f.cell, pbc=f.pbc), 4.0)).max()
        for f in frames
    ]
    assert found.max_neighbors == max(degrees)
    assert found.largest_force == pytest.approx(max(np.linalg.norm(f.forces, axis=1).max() for f in frames), rel=1e-14)
    energies = [frame.energy for frame in frames]
    assert found.energy_range == (min(energies), max(energies))


def test_residual_of_large_energies_in_any_order():
    """A spread of 1 meV on -10^6 eV: sums of squares would lose it."""
    random = np.random.default_rng(1)
    truth = np.array([-13.6, -1e6])
    counts = np.array([[2, 1], [1, 2], [4, 1]])[random.integers(0, 3, 300)]
    noise = 1e-3 * random.normal(size=300) * counts.sum(axis=1)
    found, rank, residual = reference_energies(counts, counts @ truth + noise, 2)
    expected = np.linalg.lstsq(counts.astype(float), counts @ truth + noise, rcond=None)[0]
    assert rank == 2
    assert found == pytest.approx(expected, rel=1e-9)
    assert residual == pytest.approx(((counts @ (truth - expected) + noise) / counts.sum(axis=1)).std(), rel=1e-4)
