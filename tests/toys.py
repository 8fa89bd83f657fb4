"""Small systems and short cuts that many tests share: `from toys import close` anywhere under tests/."""

from typing import Any

import torch
from torch import nn


def close(got: Any, expected: Any, tolerance: float, what: str = "numbers") -> None:
    """Raises: AssertionError with the largest difference of two arrays, also for NaN."""
    got, expected = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    assert got.shape == expected.shape, f"{what}: shapes {list(got.shape)} and {list(expected.shape)}"
    difference = float((got - expected).abs().max()) if got.numel() else 0.0
    assert difference <= tolerance, f"{what} differ by {difference:.1e}, allowed {tolerance:.0e}"


class Hops(nn.Module):
    """Pair sums passed on n_hops times: just enough to be a model."""

    def __init__(self, n_hops: int = 1, declared: int | None = None) -> None:
        super().__init__()
        self.n_hops = n_hops if declared is None else declared
        self.n_layers = n_hops
        self.weight = nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.square().sum(1).sqrt()
        u = (1.0 - r / 3.0).clamp(min=0.0).pow(3).to(self.weight.dtype)
        h = self.weight.index_select(0, species)
        for _ in range(self.n_layers):
            h = h + 0.1 * torch.zeros_like(h).index_add(0, receivers, u * h.index_select(0, senders))
        return h.to(torch.float64)
