from math import inf

import pytest

from eqff.data.forensics.diagnosis import Evidence, diagnose, faults


def test_nothing_is_wrong_with_right_data():
    for temperature in (100.0, 300.0, 2500.0):
        assert diagnose(Evidence(0.9, 0.2, temperature, 1.05, 12.0)).name == ""


def test_nothing_is_said_without_evidence():
    assert diagnose(Evidence(None, 0.0, None, None, 12.0)).name == ""


@pytest.mark.parametrize("fault", [f for f in faults(9.0) if f.name], ids=lambda f: f.message)
def test_every_fault_is_recognised_by_its_factors(fault):
    """A unit of forces and energies together shows in the temperature alone, where data sets differ: named if large."""
    evidence = Evidence(fault.slope, 0.05, 450.0 * fault.temperature, 1.02 * fault.bond, 9.0)
    found = diagnose(evidence)
    if fault.slope == 1.0 and fault.bond == 1.0:
        assert found.name in ("", fault.name)
    else:
        assert found.message == fault.message


def test_signs_count():
    assert diagnose(Evidence(-1.0, 0.05, -500.0, 1.0, 9.0)).name == "force sign"
    assert diagnose(Evidence(-1.0, 0.05, 500.0, 1.0, 9.0)).name == "energy sign"
    assert diagnose(Evidence(None, inf, -500.0, 1.0, 9.0)).name == "force sign"
