"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (N. Vyas et al., arXiv 2409.11321).

Force fields have many small matrices; they are stacked by shape, so that a step is a few batched products. Measured
against Adam in examples/benchmarks/recipes.md.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SMALLEST = 4  # rows and columns: fewer: treated as a vector
LARGEST = 256  # a longer side is not rotated


class Soap(torch.optim.Optimizer):
    """SOAP for matrices (a stack of them for each species counts as several), Adam for vectors and thin ones.

    The first step only looks at the gradient.  The state of a stack is kept with its first parameter; mean and square
    are in the eigenbasis.  Where the gradients seen do not span a side, rounding chooses its basis: on another machine,
    or with another number of threads or processes, a run takes another path, which differs by more than its last bits.

    Args: parameters; lr: learning rate; betas: of the mean and of all squares; eps: Adam's; interval: steps between two
          looks at the eigenbasis
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        interval: int = 10,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "interval": interval})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; a weight without a gradient counts as one whose gradient is 0, all without one: nothing is done."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            if all(parameter.grad is None for parameter in group["params"]):
                continue
            for offset, stack in enumerate(_stacks(group["params"])):
                gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in stack]
                together = torch.cat([_wide(g) if _is_matrix(stack[0]) else g.flatten() for g in gradients])
                change = self._change(stack[0], together, group, offset).flatten()
                for parameter, part in zip(stack, change.split([p.numel() for p in stack]), strict=True):
                    if _is_matrix(parameter) and parameter.shape[-2] > parameter.shape[-1]:
                        step = part.view(*parameter.shape[:-2], parameter.shape[-1], parameter.shape[-2]).mT
                    else:
                        step = part.view(parameter.shape)
                    parameter.sub_(step, alpha=group["lr"])
        return value

    def _change(self, first: Tensor, gradient: Tensor, group: dict[str, Any], offset: int) -> Tensor:
        """What to subtract, divided by the learning rate; of the gradient's shape.

        Args: first: parameter that keeps the state; gradient [n, rows, columns] with rows <= columns, or [n];
              offset: of the steps at which this stack looks at its basis
        """
        beta1, beta2 = group["betas"]
        state = self.state[first]
        sides = [] if gradient.dim() == 1 else ["rows", "columns"][: 1 + (gradient.shape[-1] <= LARGEST)]
        if not state:
            state["n_steps"] = 0
            state["rotated_mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            for side in sides:
                state[f"covariance_{side}"] = torch.bmm(*_halves(gradient, side))
                state[f"basis_{side}"] = _eigenbasis(state[f"covariance_{side}"])
            return torch.zeros_like(gradient)
        state["n_steps"] += 1
        n_steps = state["n_steps"]
        for side in sides:
            state[f"covariance_{side}"].baddbmm_(*_halves(gradient, side), beta=beta2, alpha=1.0 - beta2)
        bases = {side: state[f"basis_{side}"] for side in sides}
        rotated = _rotate(gradient, bases, back=False)
        state["rotated_mean"].lerp_(rotated, 1.0 - beta1)
        state["square"].mul_(beta2).addcmul_(rotated, rotated, value=1.0 - beta2)
        size = (state["square"] / (1.0 - beta2**n_steps)).sqrt_().add_(group["eps"])
        change = _rotate(state["rotated_mean"] / size.mul_(1.0 - beta1**n_steps), bases, back=True)
        if (n_steps + offset) % group["interval"] == 0:
            mean = _rotate(state["rotated_mean"], bases, back=True)
            for side in sides:  # one power iteration
                state[f"basis_{side}"] = torch.linalg.qr(state[f"covariance_{side}"] @ bases[side]).Q
            state["rotated_mean"] = _rotate(mean, {side: state[f"basis_{side}"] for side in sides}, back=False)
        return change


def _eigenbasis(covariance: Tensor) -> Tensor:
    """Eigenvectors [n, rows, rows]; where LAPACK finds none (gradients of nearly 0), the basis stays as it is."""
    try:
        return torch.linalg.eigh(covariance).eigenvectors
    except torch.linalg.LinAlgError:
        return torch.eye(covariance.shape[-1]).to(covariance).repeat(len(covariance), 1, 1)


def _halves(gradient: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """Factors of the product whose mean is the covariance of a side."""
    return (gradient, gradient.mT) if side == "rows" else (gradient.mT, gradient)


def _rotate(matrices: Tensor, bases: dict[str, Tensor], back: bool) -> Tensor:
    """[n, rows, columns] into the bases of its sides, or out of them."""
    if "rows" in bases:
        matrices = (bases["rows"] if back else bases["rows"].mT) @ matrices
    if "columns" in bases:
        matrices = matrices @ (bases["columns"].mT if back else bases["columns"])
    return matrices


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.dim() >= 2 and min(parameter.shape[-2:]) >= SMALLEST and min(parameter.shape[-2:]) <= LARGEST


def _wide(matrices: Tensor) -> Tensor:
    """[..., rows, columns] -> [n, smaller, larger]."""
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mT
    return matrices.reshape(-1, *matrices.shape[-2:])


def _stacks(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parameters that share a step: matrices of one shape, transposed or not, and all the rest."""
    found: dict[tuple[Any, ...], list[Tensor]] = {}
    for parameter in parameters:
        shape = tuple(sorted(parameter.shape[-2:])) if _is_matrix(parameter) else ()
        found.setdefault((shape, parameter.dtype, parameter.device), []).append(parameter)
    return list(found.values())
