"""The batched band: equal to ASE's band of separate calculators, one evaluation a step, a barrier of closed form."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.mep import NEB, NEBTools
from ase.optimize import BFGS, FIRE
from scipy.optimize import minimize_scalar
from torch import nn
from toys import potential_of

from eqff.artifact import potential as potential_module
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, GraphError, RunError
from eqff.tasks.neb import BatchedNEB, NebConfig, plain, run_neb

DEPTH, STEEPNESS, BOND = 4.0, 2.2, 0.97  # of a Morse curve between H and O: eV, 1/Å, Å
APART = 2.9  # Å, of the oxygens


def morse(length):
    return DEPTH * ((1 - torch.exp(-STEEPNESS * (length - BOND))) ** 2 - 1)


class Shared(nn.Module):
    """A hydrogen (species 0) feels each oxygen (species 1) by a Morse curve; nothing else interacts."""

    def forward(self, species, senders, receivers, edge_vector):
        pair = 0.5 * morse(edge_vector.norm(dim=1)) * (species[senders] != species[receivers])
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


def counted_potential(module=None):
    """A Potential in memory that lists the number of atoms of each evaluation."""
    return potential_of(module or Shared(), species=("H", "O"), r_max=6.0)


def path(n_images=7):
    """A proton between two fixed oxygens, on a way that is not yet good."""
    images = []
    for fraction in np.linspace(0.0, 1.0, n_images):
        bow = 0.3 * np.sin(np.pi * fraction)
        atoms = Atoms("OHO", [[0, 0, 0], [0, bow, 0.97 + (APART - 1.94) * fraction], [0, 0, APART]])
        atoms.set_constraint(FixAtoms([0, 2]))
        images.append(atoms)
    return images


def test_forces_are_those_of_ases_band():
    potential = counted_potential()
    together = BatchedNEB(path(), potential, climb=True, k=0.3)
    single = path()
    for atoms in single:
        atoms.calc = EqffCalculator(counted_potential())
    one_by_one = NEB(single, climb=True, k=0.3, method="improvedtangent")
    for seed in range(3):
        np.testing.assert_allclose(together.get_forces(), one_by_one.get_forces(), atol=1e-10)
        np.testing.assert_allclose(together.energies, one_by_one.energies, atol=1e-10)
        assert np.abs(together.real_forces).max() > 0.1
        for band in (together, one_by_one):
            positions = band.get_positions()
            band.set_positions(positions + 0.01 * np.random.default_rng(seed).normal(size=positions.shape))
    assert potential.evaluator.n_atoms == [21, 15, 15], "the ends do not move"


def test_the_barrier_is_that_of_the_curve():
    """In the middle of a straight way both bonds have half the length."""
    images = path()
    for end in (images[0], images[-1]):
        end.calc = EqffCalculator(counted_potential())
        BFGS(end, logfile=None).run(fmax=1e-4)
    potential = counted_potential()
    band = BatchedNEB(images, potential, climb=True, k=0.5)
    assert FIRE(band, logfile=None).run(fmax=3e-3, steps=400)

    def energy(x):
        return float(morse(torch.tensor(x)) + morse(torch.tensor(APART - x)))

    lowest = minimize_scalar(energy, bounds=(0.8, 1.25), method="bounded", options={"xatol": 1e-9})
    barrier, change = NEBTools(band.images).get_barrier(fit=False)
    assert barrier == pytest.approx(energy(APART / 2) - lowest.fun, abs=1e-5)
    assert barrier > 0.2
    assert change == pytest.approx(0.0, abs=1e-6)
    assert band.images[3].positions[1] == pytest.approx([0, 0, APART / 2], abs=2e-3)
    assert set(potential.evaluator.n_atoms[1:]) == {15}
    assert [image.positions[0].tolist() for image in band.images] == [[0, 0, 0]] * 7


def test_two_structures_are_enough(tmp_path):
    """From the ends alone to the barrier of the closed form, and the files that say it."""
    images = path()
    config = NebConfig(images=5, fmax=0.01, output=tmp_path / "neb")
    report = run_neb(config, images[0], images[-1], EqffCalculator(counted_potential()))

    def energy(x):
        return float(morse(torch.tensor(x)) + morse(torch.tensor(APART - x)))

    lowest = minimize_scalar(energy, bounds=(0.8, 1.25), method="bounded", options={"xatol": 1e-9})
    expected = energy(APART / 2) - lowest.fun
    assert report.converged
    assert report.barrier == pytest.approx(expected, abs=1e-4)
    assert report.barrier_back == pytest.approx(expected, abs=1e-4)
    assert report.saddle == 3
    assert report.max_force <= 0.01
    assert report.curve[1].max() == pytest.approx(expected, abs=2e-3)
    assert json.loads((tmp_path / "neb" / "neb.json").read_text()) == json.loads(json.dumps(plain(report)))
    written = ase.io.read(tmp_path / "neb" / "path.extxyz", index=":")
    assert len(written) == 7
    energies = [atoms.get_potential_energy() for atoms in written]
    np.testing.assert_allclose(np.array(energies) - energies[0], report.energies, atol=1e-6)
    assert images[0].calc is None
    assert np.abs(images[0].positions - path()[0].positions).max() == 0.0


def test_atoms_take_the_shortest_way_across_a_border(tmp_path):
    """The hydrogen of the last structure is given in the neighbouring cell."""
    first = Atoms("OHO", [[0, 0, 0], [0, 0, 0.97], [0, 0, APART]], cell=[9.0, 9.0, 9.0], pbc=True)
    first.set_constraint(FixAtoms([0, 2]))
    last = first.copy()
    last.positions[1] = [0, 0, APART - 0.97 - 9.0]
    report = run_neb(NebConfig(output=tmp_path / "neb"), first, last, EqffCalculator(counted_potential()))
    assert report.distances[-1] < 1.5
    assert report.barrier > 0.2


def test_ends_that_are_no_ends(tmp_path):
    calculator, first = EqffCalculator(counted_potential()), path()[0]
    other, order, cell = Atoms("OHH", first.positions), first[[1, 0, 2]], first.copy()
    cell.cell, cell.pbc = np.eye(3) * 9.0, True
    for last, error_id in ((other, "EQ1232"), (order, "EQ1232.*the order"), (cell, "EQ1233"), (first, "EQ1234")):
        with pytest.raises(ConfigError, match=error_id):
            run_neb(NebConfig(output=tmp_path / "neb"), first, last, calculator)
    assert not (tmp_path / "neb").exists()
    for options, error_id in (({"images": 0}, "EQ1227"), ({"fmax": 0.0}, "EQ1228"), ({"steps": -1}, "EQ1229")):
        with pytest.raises(ConfigError, match=error_id):
            NebConfig(**options)


def test_ases_other_methods_and_alignment_work():
    for options in ({"method": "string"}, {"remove_rotation_and_translation": True}, {"method": "aseneb"}):
        images = path(5)
        for atoms in images:
            atoms.set_constraint()
        potential = counted_potential()
        band = BatchedNEB(images, potential, **options)
        FIRE(band, logfile=None).run(fmax=0.01, steps=3)
        assert len(potential.evaluator.n_atoms) <= 4 + len(images), options
        assert np.isfinite(band.get_forces()).all()


def test_large_bands_are_evaluated_in_parts(monkeypatch):
    whole = BatchedNEB(path(), counted_potential()).get_forces()
    monkeypatch.setitem(potential_module.MAX_EDGES, "cpu", 13)
    potential = counted_potential()
    np.testing.assert_allclose(BatchedNEB(path(), potential).get_forces(), whole, atol=1e-12)
    assert potential.evaluator.n_atoms == [6, 6, 6, 3]


def test_an_image_with_another_calculator_is_left_alone():
    potential = counted_potential()
    band = BatchedNEB(path(), potential)
    other = EqffCalculator(counted_potential())
    band.images[2].calc = other
    band.get_forces()
    assert potential.evaluator.n_atoms == [18]
    assert other.results


def test_a_copied_image_can_be_asked_alone():
    potential = counted_potential()
    band = BatchedNEB(path(), potential)
    band.get_forces()
    moved = band.images[3].copy()
    moved.positions[1, 1] += 0.1
    moved.calc = band.images[3].calc
    expected = moved.copy()
    expected.calc = EqffCalculator(counted_potential())
    assert moved.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-12)


def test_names_of_potentials_and_energies_of_ases_order():
    images = [molecule("CH3CH2OH") for _ in range(3)]
    images[1].rattle(0.05, seed=0)
    band = BatchedNEB(images, "ethanol-nequip", dtype="float64")
    band.get_forces()
    for image in images:
        single = image.copy()
        single.calc = EqffCalculator("ethanol-nequip", dtype="float64")
        assert image.get_potential_energy() == pytest.approx(single.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(image.get_forces(), single.get_forces(), atol=1e-9)


def test_bad_bands_are_refused():
    with pytest.raises(ConfigError, match="EQ1256: images: 2 are too few; give at least 3"):
        BatchedNEB(path(2), counted_potential())
    images = path(3)
    with pytest.raises(ConfigError, match="EQ1257"):
        BatchedNEB([images[0], images[1], images[1]], counted_potential())


def test_errors_name_the_image():
    images = path()
    band = BatchedNEB(images, counted_potential())
    images[4].positions[1] = np.nan
    with pytest.raises(GraphError, match="EQ2103: image 4: positions: atom 1 is not finite"):
        band.get_forces()

    class Broken(nn.Module):
        def forward(self, species, senders, receivers, edge_vector):
            energies = torch.log(edge_vector.norm(dim=1) - 0.9)  # NaN where a bond is shorter
            return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, energies)

    images = path()
    images[2].positions[1, 2] = 0.8
    images[2].positions[1, 1] = 0.0
    with pytest.raises(RunError, match="EQ5301: image 2: atom 0 has energy nan"):
        BatchedNEB(images, counted_potential(Broken())).get_forces()
