import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from eqff.data.forensics.pair_model import R_MAX, PairModel, fit_pair_model, temperature
from eqff.data.frame import Frame
from eqff.units import BOLTZMANN

K, R0 = 30.0, 1.1  # eV/Å^2, Å


def cluster(random, n_atoms: int = 6, numbers=(6, 1, 8)) -> Frame:
    """Atoms at random, none too close."""
    while True:
        positions = random.uniform(0.0, 4.0, (n_atoms, 3))
        distance = np.linalg.norm(positions[:, None] - positions, axis=2)[np.triu_indices(n_atoms, 1)]
        if distance.min() > 0.9:
            return Frame(atomic_numbers=np.resize(numbers, n_atoms), positions=positions)


def some_model(random, n_species: int = 3) -> PairModel:
    n_columns = n_species * (n_species + 1) // 2 * 28
    return PairModel(np.array([1, 6, 8][:n_species]), random.normal(size=n_columns), 1.0)


def test_forces_are_the_gradient():
    random = np.random.default_rng(0)
    frame, model = cluster(random), some_model(random)
    found, step = model.predict(frame), 1e-4
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        shift = np.zeros_like(frame.positions)
        shift[atom, axis] = step
        plus, minus = (
            model.predict(Frame(atomic_numbers=frame.atomic_numbers, positions=frame.positions + s * shift)).energy
            for s in (1, -1)
        )
        assert -(plus - minus) / (2 * step) == pytest.approx(found.forces[atom, axis], abs=1e-5)


def test_laplacian_and_virial_are_derivatives():
    random = np.random.default_rng(1)
    frame, model = cluster(random), some_model(random)
    found, step = model.predict(frame), 1e-4

    def forces(positions):
        return model.predict(Frame(atomic_numbers=frame.atomic_numbers, positions=positions)).forces

    total = 0.0
    for atom in range(6):
        for axis in range(3):
            shift = np.zeros_like(frame.positions)
            shift[atom, axis] = step
            total -= (forces(frame.positions + shift) - forces(frame.positions - shift))[atom, axis] / (2 * step)
    assert total == pytest.approx(found.laplacian, rel=1e-5)
    # dE / d strain of a free cluster is -sum F_a x_b
    virial = -found.forces.T @ frame.positions
    expected = [virial[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    assert found.virial == pytest.approx(np.array(expected), abs=1e-9)


def test_a_pair_potential_is_found_again():
    """Lennard-Jones by ASE: forces alone give energies, up to a constant."""
    random = np.random.default_rng(2)
    frames = []
    for _ in range(40):
        frame = cluster(random, 5, (6,))
        atoms = Atoms(numbers=frame.atomic_numbers, positions=1.6 * frame.positions)
        atoms.calc = LennardJones(sigma=1.4, epsilon=0.5, rc=4.9, smooth=True)
        frames.append(
            Frame(
                atomic_numbers=frame.atomic_numbers,
                positions=atoms.positions,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
            )
        )
    model = fit_pair_model(frames)
    assert model.force_r2 > 0.98
    energies = np.array([frame.energy for frame in frames])
    predicted = np.array([model.predict(frame).energy for frame in frames])
    assert np.corrcoef(energies, predicted)[0, 1] > 0.98


def boltzmann_dimers(kelvin: float, n_frames: int) -> list[Frame]:
    """Springs of random orientation whose lengths are drawn from r^2 exp(-E/kT), exactly."""
    random = np.random.default_rng(3)
    grid = np.linspace(0.6, 1.6, 20_001)
    weight = np.cumsum(grid**2 * np.exp(-0.5 * K * (grid - R0) ** 2 / (BOLTZMANN * kelvin)))
    lengths = np.interp(random.random(n_frames), weight / weight[-1], grid)
    frames = []
    for r in lengths:
        axis = random.normal(size=3)
        axis /= np.linalg.norm(axis)
        force = K * (r - R0) * axis
        positions = np.array([np.zeros(3), r * axis])
        frames.append(Frame(atomic_numbers=np.array([6, 8]), positions=positions, forces=np.array([force, -force])))
    return frames


@pytest.mark.parametrize("kelvin", [200.0, 600.0])
def test_temperature_of_exact_samples(kelvin):
    frames = boltzmann_dimers(kelvin, 400)
    model = fit_pair_model(frames)
    found = temperature(frames, [model.predict(frame) for frame in frames])
    assert found == pytest.approx(kelvin, rel=0.15)


def test_wrong_sign_is_a_negative_temperature():
    frames = [Frame(**{**vars(f), "forces": -f.forces}) for f in boltzmann_dimers(400.0, 300)]
    model = fit_pair_model(frames)
    assert temperature(frames, [model.predict(frame) for frame in frames]) == pytest.approx(-400.0, rel=0.25)


def test_nothing_to_fit():
    atom = Frame(atomic_numbers=np.array([6]), positions=np.zeros((1, 3)), forces=np.zeros((1, 3)))
    far = np.array([[0.0, 0.0, 0.0], [R_MAX + 1.0, 0.0, 0.0]])
    apart = Frame(atomic_numbers=np.array([6, 6]), positions=far, forces=np.ones((2, 3)))
    for frames in ([], [atom], [apart], [Frame(**{**vars(apart), "forces": None})]):
        assert fit_pair_model(frames) is None
