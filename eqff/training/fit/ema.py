"""Exponential moving average of the weights: what is validated and exported."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """theta_avg <- d theta_avg + (1 - d) theta after every step, d = min(decay, (1 + t) / (10 + t)) at first."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.decay = decay
        self.n_updates = 0
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Include the weights after one step."""
        self.n_updates += 1
        decay = min(self.decay, (1.0 + self.n_updates) / (10.0 + self.n_updates))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model has the averaged weights."""
        current = [p.detach().clone() for p in self.parameters]
        self._set(self.average)
        try:
            yield
        finally:
            self._set(current)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, object]:
        """State for checkpoints."""
        return {"n_updates": self.n_updates, "names": self.names, "average": self.average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue the average of a checkpoint."""
        self.n_updates = int(state["n_updates"])  # type: ignore[call-overload]
        for value, saved in zip(self.average, state["average"], strict=True):  # type: ignore[call-overload]
            value.copy_(saved)
