"""Every family takes every check of eqff.validation."""

import numpy as np
import pytest

from eqff.validation.checks import composition, cutoff, gradient, inversion, n_hops, rotation
from eqff.validation.checks.batch import batch
from eqff.validation.checks.work import path
from eqff.validation.examination import checks_for
from eqff.validation.finding import Check

from .exam import SMALLEST, Exam, names, prepared, variants, without_file

CHECKS = checks_for(prepared(names()[0]))
OF_VARIANTS = (
    rotation.rotation, inversion.inversion, batch, n_hops.n_hops, n_hops.n_hops_is_reached, cutoff.cutoff,
    gradient.gradient, composition.composition,
)  # fmt: skip
OF_FLOAT32 = (rotation.rotation, cutoff.beyond_the_cutoff)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_check(check: Check, exam: Exam) -> None:
    finding = check(exam)
    assert finding.passed, finding.note


@pytest.mark.parametrize("check", OF_FLOAT32, ids=lambda check: check.name)
def test_check_in_float32(check: Check, exam: Exam) -> None:
    finding = check(exam.in_float32())
    assert finding.passed, finding.note


def test_check_can_fail(exam: Exam) -> None:
    sensitive(exam)


@pytest.mark.parametrize("name", variants())
def test_variant(name: str) -> None:
    """Other switches, fewer checks."""
    sensitive(prepared(name))
    for check in OF_VARIANTS:
        finding = check(prepared(name))
        assert finding.passed, f"{check.name}: {finding.note}"


def test_every_family_is_examined() -> None:
    for name in without_file():
        pytest.fail(f"eqff/models/{name}.py is not examined: write {SMALLEST / name}.toml, its smallest Config")
    assert "nequip" in names()
    assert {path.stem.split("-")[0] for path in SMALLEST.glob("*.toml")} == set(names()), "a file of no family"
    assert {prepared(name).symmetry for name in variants()} >= {"O(3)", "SE(3)"}, "inversion is never given up"
    assert len(CHECKS) >= 30


def test_model_has_the_symmetry_of_its_file(exam: Exam) -> None:
    assert exam.symmetry == exam.family.SYMMETRY


def sensitive(exam: Exam) -> None:
    """The checks can fail: forces are about 1 eV/Å; species, angles and a single edge matter."""
    positions, species = exam.clusters[0].positions, exam.clusters[0].species
    result = exam.evaluate(exam.clusters[0])
    assert 0.2 < float(result.forces.square().mean().sqrt()) < 5.0, "forces are not about 1 eV/Å"
    assert float(result.forces.abs().amin()) > 1e-9, "a component of the forces vanishes"
    exchanged = exam.evaluate(exam.structure(positions, 1 - species))
    assert float((exchanged.energies - result.energies).abs().max()) > 1e-2, "species do not matter"
    bent = [arm(exam, angle, 0.6) for angle in (1.9, 2.9)]  # the outer atoms do not see each other
    stretched = arm(exam, 1.9, 0.8)
    by_angle, by_length = abs(bent[0] - bent[1]), abs(bent[0] - stretched)
    assert len({(*f.senders.tolist(), *f.receivers.tolist()) for f in path(exam)[0]}) > 3, "no edge comes or goes"
    assert by_angle > 1e-3 * by_length, f"bending changes the energy by {by_angle:.1e}, stretching by {by_length:.1e}"


def arm(exam: Exam, angle: float, length: float) -> float:
    """Energy of three atoms with this angle, one bond of 0.65 r_max and one of `length` r_max."""
    ends = [0.65 * np.array([1.0, 0, 0]), length * np.array([np.cos(angle), np.sin(angle), 0])]
    points = exam.r_max * np.vstack([np.zeros(3), *ends])
    return float(exam.evaluate(exam.structure(points, [0, 1, 1])).energy)
