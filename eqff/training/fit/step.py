"""One training step: loss and its gradient with respect to the weights, eager or compiled as a whole."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.graph import Structure
from eqff.nn.fast.fused import SharedRadial, pairs_of_edges
from eqff.training.config import LossConfig
from eqff.training.fit.lone_atoms import LoneAtoms
from eqff.training.fit.losses import Labels, errors, loss
from eqff.training.fit.stopped import OutOfTime, time_limit

logger = logging.getLogger("eqff.training")
COMPILATION = 60.0  # s, of a training step on a busy core; with less time left eager steps get further
LOSS_OFF, GRADIENT_OFF = 2e-4, 1e-2  # relative; rounding of float32 stays below, also late in a training


class GivenGradient(torch.autograd.Function):
    """Gives a loss whose gradient is already known to loss.backward()."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:  # type: ignore[override]
        if float(grad_output) == 1.0:  # nearly always
            return None, None, *ctx.gradients
        return None, None, *[g if g is None else g * grad_output.to(g.dtype) for g in ctx.gradients]


class EagerStep:
    """Loss and its gradient by autograd of autograd, with respect to the model's weights and nothing else."""

    def __init__(self, model: nn.Module, config: LossConfig, alone: LoneAtoms | None = None) -> None:
        self.model, self.config, self.alone = model, config, alone or LoneAtoms((), {})

    def __call__(self, structure: Structure, labels: Labels, weights: Tensor) -> Tensor:
        found = errors(self.alone.held(self.model), structure, labels, create_graph=True)
        value = loss(found, structure, labels, weights, self.config)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad([value], parameters, allow_unused=True)
        return GivenGradient.apply(value.detach(), gradients, *parameters)


class CompiledStep:
    """The same loss and gradient as one torch.compile'd program of plain tensors.

    The second derivative is inside the traced program (autograd cannot differentiate compiled code twice). Shapes are
    fixed by the first batch: every batch needs the same numbers of atoms and edges. The first batch is also computed by
    the eager step; if the results differ, the eager step is used instead, with a warning.
    """

    def __init__(self, model: nn.Module, config: LossConfig, alone: LoneAtoms | None = None) -> None:
        self.model, self.config, self.alone = model, config, alone or LoneAtoms((), {})
        self.deadline = math.inf  # of time.monotonic(); compilation ends there, and the eager step does what is left
        self.compiling = False
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.program: Any = None
        self.shape: tuple[int, ...] = ()
        self.instead: EagerStep | None = None
        self.shared = [module for module in model.modules() if isinstance(module, SharedRadial)]

    def constants(self) -> dict[str, Tensor]:
        """Everything the program reads that is not trained."""
        frozen = {name: p.detach() for name, p in self.model.named_parameters() if not p.requires_grad}
        return frozen | dict(self.model.named_buffers())

    def __call__(self, structure: Structure, labels: Labels, weights: Tensor) -> Tensor:
        shape = (structure.positions.shape[0], structure.senders.shape[0], structure.n_graphs)
        inputs = [structure.positions, structure.species, structure.cell, structure.pbc, structure.batch]
        inputs += [structure.senders, structure.receivers, structure.edge_shift]
        inputs += [labels.energy, labels.forces, labels.weight, labels.n_labels, weights]
        alone = [self.alone.species, self.alone.energy] if self.alone else []
        inputs += [tensor.to(structure.species.device) for tensor in alone]
        inputs += [] if labels.stress is None else [labels.stress]
        inputs += pairs_of_edges(structure.senders, structure.receivers) if self.shared else ()
        parameters = [p.detach() for p in self.parameters.values()]
        tensors = [*parameters, *self.constants().values(), *inputs]
        if self.program is None:
            self.shape, self.compiling = shape, True
            try:
                if self.deadline - time.monotonic() < COMPILATION:
                    raise OutOfTime
                with time_limit(self.deadline):
                    self.program = self._trace(tensors, structure.n_graphs, labels.stress is not None)
                    self.instead = self._checked(tensors, (structure, labels, weights))
            except OutOfTime:
                logger.warning("training step: not compiled, because the time limit is too near")
                self.program = self.instead = EagerStep(self.model, self.config, self.alone)
            finally:
                self.compiling = False
        if shape != self.shape:
            raise ConfigError(
                "EQ1065",
                f"training.compile=true, but a batch has (atoms, edges, frames)={shape}, the first had {self.shape}; "
                "it needs frames of equally many atoms (and edges, if periodic) and n_train divisible by batch_size; "
                'set compile = "auto" or false',
            )
        if self.instead is not None:
            return self.instead(structure, labels, weights)
        with torch.no_grad():
            value, *gradients = self.program(*tensors)
        return GivenGradient.apply(value, gradients, *self.parameters.values())

    def _checked(self, tensors: list[Tensor], batch: tuple[Any, ...]) -> EagerStep | None:
        """None if the program agrees with the eager step, else the eager step."""
        eager = EagerStep(self.model, self.config, self.alone)
        value = eager(*batch)
        if not value.isfinite():  # nothing to compare with
            return None
        gradients, value = torch.autograd.grad(value, list(self.parameters.values()), allow_unused=True), value.detach()
        with torch.no_grad():
            found, *others = self.program(*tensors)
            expected = [torch.zeros_like(b) if a is None else a for a, b in zip(gradients, others, strict=True)]
            size = torch.stack([a.double().norm() for a in expected]).norm()
            off = torch.stack([(a - b).double().norm() for a, b in zip(expected, others, strict=True)]).norm()
        if abs(found - value) <= LOSS_OFF * abs(value) and off <= GRADIENT_OFF * size:
            return None
        logger.warning(
            "the compiled step is not used, it differs from the eager one: loss %.6g, not %.6g, gradient off by %.1g",
            *(float(found), float(value), float(off / size)),
        )
        return eager

    def _trace(self, tensors: list[Tensor], n_graphs: int, with_stress: bool) -> Any:
        from torch.fx.experimental.proxy_tensor import make_fx

        names, constant_names = list(self.parameters), list(self.constants())
        first, last = len(names), len(names) + len(constant_names)

        def step(*values: Tensor) -> list[Tensor]:
            parameters = [value.detach().requires_grad_(True) for value in values[:first]]
            state = dict(zip(names, parameters, strict=True))
            state |= dict(zip(constant_names, values[first:last], strict=True))
            positions, species, cell, pbc, batch, senders, receivers, edge_shift, *others = values[last:]
            energy, forces, weight, count, weights, *others = others
            alone = (others.pop(0), others.pop(0)) if self.alone else (None, None)
            labels = Labels(energy, forces, others.pop(0) if with_stress else None, weight, count)
            for radial in self.shared:
                radial.pairs = (others[0], others[1])
            structure = Structure(positions, species, cell, pbc, batch, n_graphs, senders, receivers, edge_shift)

            def model(species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
                return torch.func.functional_call(self.model, state, (species, senders, receivers, edge_vector))

            held = self.alone.held(model, *alone)
            value = loss(errors(held, structure, labels, create_graph=True), structure, labels, weights, self.config)
            # weights that do not affect the energy get 0, e.g. paths of another parity in the last layer
            gradients = torch.autograd.grad([value], parameters, allow_unused=True, materialize_grads=True)
            return [value.detach(), *gradients]

        try:
            traced = make_fx(step, tracing_mode="fake")(*tensors)
        finally:
            for radial in self.shared:
                radial.pairs = None
        return torch.compile(traced, dynamic=False)
