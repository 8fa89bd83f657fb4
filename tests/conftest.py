"""Fixtures of more than one folder."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def float64_default() -> Iterator[None]:
    """e3nn rounds the constants of its products to the default dtype when they are made; as an oracle it needs all."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
