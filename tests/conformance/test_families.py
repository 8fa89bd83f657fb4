"""Every family takes every check."""

import pytest

from .checks import CHECKS, Check, contract, derivatives, locality, smoothness, symmetry
from .exam import SMALLEST, Exam, names, prepared, variants, without_file

OF_VARIANTS = (
    symmetry.rotation, symmetry.inversion, locality.batch_is_single, locality.receptive_field,
    smoothness.jump_of_energy, smoothness.jump_of_forces, derivatives.forces, contract.composition, contract.sensitive,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_check(check: Check, exam: Exam) -> None:
    check(exam)


@pytest.mark.parametrize("name", variants())
def test_variant(name: str) -> None:
    """Other switches, fewer checks."""
    for check in OF_VARIANTS:
        check(prepared(name))


def test_every_family_is_examined() -> None:
    for name in without_file():
        pytest.fail(f"eqff/models/{name}.py is not examined: write {SMALLEST / name}.toml, its smallest Config")
    assert "nequip" in names()
    assert {path.stem.split("-")[0] for path in SMALLEST.glob("*.toml")} == set(names()), "a file of no family"
    assert {prepared(name).model.symmetry for name in variants()} >= {"O(3)", "SE(3)"}, "inversion is never given up"
    assert len(CHECKS) >= 35
