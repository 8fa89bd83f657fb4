"""Faults where an edge appears or vanishes: envelopes, neighbours left out, attention."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from eqff.models import escn
from eqff.nn import attention, radial
from eqff.validation.checks import batch, cutoff, work

from ..exam import Exam
from .planting import fault, replaced, summed, wrapped


@fault("envelope removed", cutoff.cutoff, cutoff.path_through_the_cutoff, work.work)
def envelope_removed(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return replaced(patch, exam, radial.polynomial_envelope, lambda x, p: torch.where(x < 1.0, 1.0, 0.0 * x))


@fault("envelope with a kink", cutoff.cutoff_of_curvature)
def kink(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """Bessel functions vanish at the cut-off by themselves: even with this one forces are continuous, no more."""
    return replaced(patch, exam, radial.polynomial_envelope, lambda x, p: (1.0 - x).clamp(min=0.0))


@fault("envelope not zero beyond the cut-off", cutoff.beyond_the_cutoff)
def envelope_beyond(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return replaced(patch, exam, radial.polynomial_envelope, lambda x, p: (1.0 - x) ** 4)


@fault("XPLOR with a step where it starts", work.work, variants=("nequip-sevennet",))
def xplor_step(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    envelope = radial.xplor_envelope
    return replaced(patch, exam, envelope, lambda x, x_on: torch.where(x < x_on, 1.05, envelope(x, x_on)))


@fault("XPLOR not zero at the cut-off", cutoff.cutoff, cutoff.beyond_the_cutoff, variants=("nequip-sevennet",))
def xplor_beyond(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return replaced(patch, exam, radial.xplor_envelope, lambda x, x_on: 1.0 - 0.9 * x)


@fault("a bias behind the last envelope", cutoff.cutoff, cutoff.beyond_the_cutoff)
def late_bias(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return summed(exam, lambda x, receivers: x + 0.1)


@fault("degree embedding without envelope", cutoff.cutoff)
def degree_without_envelope(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    if not hasattr(exam.model, "degree"):
        return None

    model = copy.deepcopy(exam.model)
    embed = model.degree.forward  # type: ignore[union-attr]

    def embedded(h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Any) -> Tensor:
        if exam.family is escn:
            edges = edges._replace(turn_back=edges.turn)  # turned back without the envelope
        else:
            edges = edges._replace(envelope=torch.ones_like(edges.envelope))
        return embed(h, species, senders, receivers, edges)

    model.degree.forward = embedded  # type: ignore[union-attr, method-assign]
    return dataclasses.replace(exam, model=model)


@fault("nearest two neighbours only", work.work)
def capped(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    def nearest(forward: Any, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        length = edge_vector.detach().norm(dim=1)
        same = receivers[:, None] == receivers
        kept = ((length < length[:, None]) & same).sum(1) < 2
        return forward(species, senders[kept], receivers[kept], edge_vector[kept])

    return wrapped(exam, "forward", nearest)


@fault("softmax as published", cutoff.cutoff, work.work)
def published_softmax(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    weights = attention.attention_weights
    return replaced(patch, exam, weights, lambda s, u, receivers, n, smooth: weights(s, u, receivers, n, False))


@fault("envelope behind the softmax", cutoff.cutoff)
def envelope_behind(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    weights = attention.attention_weights
    return replaced(patch, exam, weights, lambda s, u, receivers, n, smooth: u * weights(s, u, receivers, n, False))


@fault("softmax over all edges", batch.batch, batch.fragments)
def softmax_over_all(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    weights = attention.attention_weights
    return replaced(
        patch, exam, weights, lambda s, u, receivers, n, smooth: weights(s, u, torch.zeros_like(receivers), n, smooth)
    )
