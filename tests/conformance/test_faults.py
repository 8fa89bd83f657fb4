"""The exam goes red for every fault it is meant to find."""

import pytest

from .exam import names, prepared
from .faults import FAULTS, Fault, noticed, planted


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what.replace(" ", "_"))
def test_fault_is_noticed(fault: Fault) -> None:
    """By each of the checks it names, in every family that has the block."""
    families = 0
    for name in fault.variants or names():
        with planted(fault, prepared(name)) as broken:
            if broken is not None:
                families += 1
                for check in fault.red:
                    assert noticed(check, broken), f"{fault.what}: {check.name} is green for {name}"
    assert families > 0, f"no family has what {fault.what!r} breaks"
