"""Calculators of ASE take the checks that need energies and forces alone."""

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from eqff.validation.examination import checks, examine
from eqff.validation.subject import Calculator as Subject

R_MAX = 3.0
SYMMETRIES = ["rotation", "rotation_onto_axes", "inversion", "translation", "permutation", "lattice", "supercell"]


def failed(calculator, names, species=("H", "O"), r_max=R_MAX):
    subject = Subject.of(calculator, species, r_max)
    return {finding.check for finding in examine(subject, names) if not finding.passed}


class Leaning(Calculator):
    """A field along z that has no force."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": float(self.atoms.positions[:, 2].sum()), "forces": np.zeros((len(self.atoms), 3))}


def test_smooth_pairs_of_ase_pass():
    everything = {name for name, check in checks().items() if check.suits(Subject.of(LennardJones(), ("H",), R_MAX))}
    assert everything >= {*SYMMETRIES, "fragments", "gradient", "stress", "work", "path_through_the_cutoff", "repeat"}
    smooth = LennardJones(sigma=0.4, epsilon=0.1, rc=R_MAX, ro=0.66 * R_MAX, smooth=True)
    assert failed(smooth, everything) == set()


def test_pairs_cut_off_at_a_force_are_found():
    """ASE shifts the energy of each pair to zero at rc, but not its force."""
    cut, smooth = (LennardJones(sigma=0.85, rc=2.0, smooth=smooth) for smooth in (False, True))
    assert failed(cut, ["path_through_the_cutoff"], ["O"], 2.0) == {"path_through_the_cutoff"}
    assert failed(smooth, ["path_through_the_cutoff"], ["O"], 2.0) == set()


def test_a_field_is_found():
    names = ["rotation", "inversion", "translation", "gradient", "permutation", "repeat"]
    assert failed(Leaning(), names) == {"rotation", "inversion", "translation", "gradient"}


@pytest.mark.parametrize("name", ["batch", "direction"])
def test_a_calculator_does_not_suit_checks_of_edges(name):
    assert not checks()[name].suits(Subject.of(Leaning(), ("H",), R_MAX))
