"""Faults in which atoms know of which, and in what programs rely on."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqff.nn import radial, readout
from eqff.validation.checks import (
    batch,
    composition,
    construction,
    ghosts,
    n_hops,
    permutation,
    repeat,
    second_derivatives,
)

from ..exam import Exam
from .planting import fault, wrapped


@fault("one edge dropped", permutation.permutation_of_edges, batch.batch)
def dropped(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    def shortened(forward: Any, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        return forward(species, senders[:-1], receivers[:-1], edge_vector[:-1])

    return wrapped(exam, "forward", shortened)


@fault("senders and receivers exchanged", ghosts.direction, ghosts.ghosts)
def exchanged(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    def swapped(forward: Any, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        return forward(species, receivers, senders, edge_vector)

    return wrapped(exam, "forward", swapped)


@fault("read-out sees the mean over all atoms", batch.fragments, batch.batch)
def mean_over_all(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return wrapped(exam, "readout", lambda readout, h, species: readout(h + 0.1 * h.mean(0), species))


@fault("n_hops too small", n_hops.n_hops)
def short_sighted(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """One more sum over neighbours than stated, in the read-out."""
    model = copy.deepcopy(exam.model)
    forward = model.forward

    def spread(species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        energy = forward(species, senders, receivers, edge_vector)
        weight = radial.polynomial_envelope(edge_vector.norm(dim=1) / exam.r_max, 6)
        return energy.index_add(0, receivers, 0.1 * weight * energy.index_select(0, senders))

    model.forward = spread
    return dataclasses.replace(exam, model=model)


@fault("n_hops too large", n_hops.n_hops_is_reached)
def far_sighted(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    model = copy.deepcopy(exam.model)
    model.n_hops += 1
    return dataclasses.replace(exam, model=model)


@fault("dropout left on", repeat.repeat)
def dropout(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return wrapped(exam, "readout", lambda readout, h, species: readout(nn.functional.dropout(h, 0.1), species))


@fault("a weight that leads nowhere", second_derivatives.gradient_of_forces_by_weights)
def dead_weight(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    model = copy.deepcopy(exam.model)
    model.dead = nn.Parameter(torch.ones(3, dtype=torch.float64))
    return dataclasses.replace(exam, model=model)


@fault("forces cut from the graph of the weights", second_derivatives.gradient_of_forces_by_weights)
def cut_graph(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """A block of whose second derivative half is missing."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradients[0] * (1.0 - torch.tanh(x.detach()).square())

    return wrapped(exam, "readout", lambda readout, h, species: readout(Once.apply(h), species))


@fault("weights from torch's global generator", construction.construction)
def global_seed(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    randn = torch.randn
    patch.setattr(torch, "randn", lambda *size, generator=None, **options: randn(*size, **options))
    return exam


@fault("reference energies in float32", construction.reference_energies)
def rounded_references(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    forward = readout.SpeciesScaleShift.forward
    patch.setattr(
        readout.SpeciesScaleShift, "forward", lambda self, x, species: forward(self, x, species).float().double()
    )
    return exam


@fault("forward leaves out a step", composition.composition)
def not_composed(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return wrapped(exam, "forward", lambda forward, *arguments: forward(*arguments) * (1.0 + 1e-15) + 1e-14)
