"""Faults in derivatives: detached, rounded, singular, kinked, or wrongly put together."""

import copy
import dataclasses
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqff import graph, potential
from eqff.nn import layer_norm, norm_activation
from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.harmonics import SphericalHarmonics
from eqff.o3 import edge_frames as frames
from eqff.validation.checks import gradient, lattice, second_derivatives, work

from ..exam import Exam
from .planting import fault, replaced, uses, wrapped


@fault("direction of edges detached", gradient.gradient, gradient.gradient_at_the_poles, gradient.stress)
def detached(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """Harmonics, or the frame, as the reference codes of eSCN and of the SE(3)-Transformer have it."""
    harmonics, rotation = SphericalHarmonics.forward, EdgeRotation.forward
    patch.setattr(SphericalHarmonics, "forward", lambda self, direction: harmonics(self, direction.detach()))
    patch.setattr(EdgeRotation, "forward", lambda self, direction: rotation(self, direction.detach()))
    return exam


@fault("edge vectors in float32", gradient.gradient)
def rounded(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    return wrapped(exam, "geometry", lambda geometry, edge_vector: geometry(edge_vector.float().double()))


@fault("frame from angles", gradient.gradient_at_the_poles)
def frame_from_angles(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """Polar and azimuthal angle about y, as in the reference code: singular at the poles."""

    def frame(u: Tensor) -> Tensor:
        polar, azimuth = torch.acos(u[:, 1].clamp(-1.0, 1.0)), torch.atan2(u[:, 0], u[:, 2])
        x = torch.stack([azimuth.cos(), torch.zeros_like(polar), -azimuth.sin()], 1)
        y = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], 1)
        return torch.stack([x, y, torch.linalg.cross(x, y, dim=1)], 1)

    return replaced(patch, exam, frames.helper_axis_frame, frame)


@fault("norm without softening", second_derivatives.symmetric_sites)
def bare_norm(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    patch.setattr(norm_activation, "soft_norm", lambda x: x.square().sum(1, keepdim=True).sqrt())
    return exam if uses(exam, norm_activation.NormActivation) else None


@fault("layer norm divides by almost nothing", second_derivatives.symmetric_sites)
def hard_norm(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """Equiformer's as published: 1e-5 is added to mean squares, also to those that vanish by symmetry."""
    model = copy.deepcopy(exam.model)
    for module in model.modules():
        if isinstance(module, layer_norm.EquivariantLayerNorm):
            module.epsilon = 1e-5
    return dataclasses.replace(exam, model=model) if uses(exam, layer_norm.EquivariantLayerNorm) else None


@fault("layer norm of norms divides by almost nothing", work.work)
def hard_norm_of_norms(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """The SE(3)-Transformer's as published: norms that hardly differ are told apart all the same."""
    model = copy.deepcopy(exam.model)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    return dataclasses.replace(exam, model=model) if uses(exam, nn.LayerNorm) else None


@fault("forces on receivers only", gradient.gradient)
def half_of_forces(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    assemble = potential.assemble

    def halved(structure: Any, edge_vector: Tensor, node_energy: Tensor, gradient: Tensor) -> Any:
        result = assemble(structure, edge_vector, node_energy, gradient)
        forces = torch.zeros_like(result.forces).index_add_(0, structure.receivers, gradient)
        return result._replace(forces=forces)

    patch.setattr(potential, "assemble", halved)
    return exam


@fault("cell shifts with the wrong sign", lattice.lattice, lattice.supercell)
def wrong_shift(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    vectors = graph.edge_vectors

    def turned(structure: Any) -> Tensor:
        return vectors(structure._replace(edge_shift=-structure.edge_shift))

    for name in [module for module in sys.modules if module.startswith(("eqff.potential", "eqff.validation"))]:
        if getattr(sys.modules[name], "edge_vectors", None) is vectors:
            patch.setattr(sys.modules[name], "edge_vectors", turned)
    return exam


@fault("SiLU replaced by ReLU", work.work)
def kinks(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    patch.setattr(torch.nn.functional, "silu", torch.relu)
    return exam
