"""Fixtures of more than one folder."""

import os
from collections.abc import Iterator

# Before torch is imported, and inherited by child processes: these systems are small, where threads only wait for each
# other, most of all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("eqff", deadline=None)  # machines stall; a wrong result is what must fail
hypothesis.settings.load_profile("eqff")


@pytest.fixture
def float64_default() -> Iterator[None]:
    """e3nn rounds the constants of its products to the default dtype when they are made; as an oracle it needs all."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
