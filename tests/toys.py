"""Small systems and short cuts that many tests share: `from toys import close` anywhere under tests/."""

from typing import Any

import torch


def close(got: Any, expected: Any, tolerance: float, what: str = "numbers") -> None:
    """Raises: AssertionError with the largest difference of two arrays, also for NaN."""
    got, expected = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    assert got.shape == expected.shape, f"{what}: shapes {list(got.shape)} and {list(expected.shape)}"
    difference = float((got - expected).abs().max()) if got.numel() else 0.0
    assert difference <= tolerance, f"{what} differ by {difference:.1e}, allowed {tolerance:.0e}"
