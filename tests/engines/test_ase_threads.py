"""Threads that share a calculator or a potential, and torch's modes around a call: the numbers do not change."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from toys import ethanol, tiny_file

import eqff
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.baseline import Baseline
from eqff.errors import EqffError
from eqff.rebuild import rebuild

N_THREADS, N_CALLS = 4, 100


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    yield from tiny_file(tmp_path_factory)


@pytest.fixture(scope="module")
def structures():
    """Different energies; some have fewer atoms."""
    found = [ethanol(seed=seed) for seed in range(N_THREADS * N_CALLS)]
    return [atoms[: 9 - seed % 3] for seed, atoms in enumerate(found)]


def in_threads(work):
    """work(thread) in threads that begin together; the first error is raised."""
    barrier = threading.Barrier(N_THREADS)

    def begin(thread):
        barrier.wait()
        return work(thread)

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(begin, range(N_THREADS)))


def test_a_calculator_shared_by_threads(potential_file, structures):
    alone = EqffCalculator(potential_file)
    expected = [(alone.get_potential_energy(atoms), alone.get_forces(atoms)) for atoms in structures]
    shared = EqffCalculator(potential_file)  # not loaded yet

    def work(thread):
        for k in range(thread, len(structures), N_THREADS):
            atoms = structures[k].copy()
            atoms.calc = shared
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            assert abs(energy - expected[k][0]) < 1e-9
            np.testing.assert_allclose(forces, expected[k][1], atol=1e-9)

    in_threads(work)


def test_a_potential_shared_by_threads(potential_file, structures):
    potential = eqff.load(potential_file)
    expected = [prediction.energy for prediction in potential.predict(structures)]

    def work(thread):
        for k in range(thread, len(structures), N_THREADS):
            (prediction,) = potential.predict([structures[k]])
            assert abs(prediction.energy - expected[k]) < 1e-6

    in_threads(work)


def test_copies_share_a_baseline(structures):
    baseline = Baseline(EMT(), "emt")
    arrays = [(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc) for atoms in structures[:40]]
    expected = [baseline(*one).energy for one in arrays]

    def work(thread):
        for k in range(thread, len(arrays), N_THREADS):
            assert baseline(*arrays[k]).energy == expected[k]

    in_threads(work)


@contextlib.contextmanager
def default_dtype():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "default_dtype": default_dtype,
    "default_device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["load", "call"])
def test_modes_of_torch_change_no_number(potential_file, mode, when):
    atoms = ethanol()
    reference = eqff.load(potential_file)
    expected = reference.predict([atoms])[0]
    rows = EqffCalculator(reference).get_hessian(atoms)
    weights = rebuild(potential_file).state_dict()
    if when == "call":
        potential, calculator = eqff.load(potential_file), EqffCalculator(potential_file)
        calculator.get_potential_energy(ethanol(seed=3))
    with MODES[mode]():
        try:
            if when == "load":
                potential, calculator = eqff.load(potential_file), EqffCalculator(potential_file)
            found = potential.predict([atoms])[0]
            energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
            hessian = calculator.get_hessian(atoms)
            rebuilt = rebuild(potential_file).state_dict()
        except EqffError as error:
            pytest.fail(str(error))
    assert found.energy == energy == expected.energy
    np.testing.assert_array_equal(found.forces, expected.forces)
    np.testing.assert_array_equal(forces, expected.forces)
    np.testing.assert_allclose(hessian, rows, atol=1e-9)
    assert all(torch.equal(rebuilt[name], weights[name]) for name in weights)
