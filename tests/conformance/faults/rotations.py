"""Faults in what turns with the structure: couplings, harmonics, frames, norms, gates, parities."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from eqff.models import escn
from eqff.nn import degree_layers, gate, layer_norm, norm_activation, so2
from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.linear import ScalarBias
from eqff.o3 import coupling, irreps
from eqff.o3 import edge_frames as frames
from eqff.validation.checks import inversion, rotation

from ..exam import Exam, prepare
from .planting import fault, replaced, uses


@fault("sign of one coupling coefficient", rotation.rotation)
def coupling_sign(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    matrix = coupling.coupling_matrix

    def flipped(irreps_in: Any, paths: Any, l_max: int) -> Tensor:
        table = matrix(irreps_in, paths, l_max).clone()
        table[1:, 0] *= -1.0
        return table

    return prepare(exam.name) if replaced(patch, exam, matrix, flipped) else None


@fault("a bias on vectors", rotation.rotation, variants=("nequip-sevennet",))
def bias_on_vectors(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    forward = ScalarBias.forward

    def biased(self: Any, blocks: list[Tensor], scale: Tensor) -> list[Tensor]:
        return [block + 0.1 * block.new_ones(block.shape[1:]) for block in forward(self, blocks, scale)]

    patch.setattr(ScalarBias, "forward", biased)
    return exam if uses(exam, ScalarBias) else None


@fault("two harmonics exchanged", rotation.rotation, rotation.rotation_onto_axes)
def harmonics_exchanged(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    forward = SphericalHarmonics.forward
    order = torch.tensor([0, 1, 2, 3, 4, 6, 5, 7, 8])
    patch.setattr(SphericalHarmonics, "forward", lambda self, direction: forward(self, direction)[:, order])
    return exam if uses(exam, SphericalHarmonics) else None


@fault("sign in a Wigner matrix", rotation.rotation, rotation.rotation_onto_axes)
def wigner_sign(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    rows = EdgeRotation.rows

    def flipped(self: Any, frame: Tensor) -> Tensor:
        sign = torch.ones(self.n_rows, self.n_columns, dtype=frame.dtype)
        sign[1, 2] = -1.0
        return rows(self, frame) * sign

    patch.setattr(EdgeRotation, "rows", flipped)
    return exam if uses(exam, EdgeRotation) else None


@fault("frame not orthonormal", rotation.rotation)
def skewed_frame(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    frame = frames.helper_axis_frame

    def skewed(direction: Tensor) -> Tensor:
        axes = frame(direction)
        return torch.stack([axes[:, 0] + 0.1 * axes[:, 2], axes[:, 1], axes[:, 2]], 1)

    return replaced(patch, exam, frame, skewed)


@fault("orders of one sign scaled", rotation.rotation)
def so2_sign(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    forward = so2.SO2Linear.forward

    def uneven(self: Any, blocks: list[Tensor]) -> list[Tensor]:
        blocks = forward(self, blocks)
        return [blocks[0], *[torch.stack([1.2 * block[:, 0], block[:, 1]], 1) for block in blocks[1:]]]

    patch.setattr(so2.SO2Linear, "forward", uneven)
    return exam if uses(exam, so2.SO2Linear) else None


@fault("norm of components one by one", rotation.rotation)
def norm_axis(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """Layer norms and norms of vectors, over the wrong axis."""

    def by_component(self: Any, blocks: list[Tensor]) -> list[Tensor]:
        return [x * (x.square().mean(2, keepdim=True) + 1e-2).rsqrt() for x in blocks]

    def by_row(self: Any, x: Tensor) -> Tensor:
        return x * (x.square().mean(2, keepdim=True) + 1e-2).rsqrt()

    patch.setattr(layer_norm.EquivariantLayerNorm, "forward", by_component)
    patch.setattr(degree_layers.DegreeNorm, "forward", by_row)
    patch.setattr(norm_activation, "soft_norm", lambda x: (x.square() + 0.01).sqrt())
    blocks = (layer_norm.EquivariantLayerNorm, degree_layers.DegreeNorm, norm_activation.NormActivation)
    return exam if any(uses(exam, block) for block in blocks) else None


@fault("gate acts on components", rotation.rotation)
def gate_of_components(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    forward = gate.Gate.forward

    def activated(self: Any, blocks: list[Tensor]) -> list[Tensor]:
        return [torch.tanh(block) if block.shape[1] > 1 else block for block in forward(self, blocks)]

    patch.setattr(gate.Gate, "forward", activated)
    return exam if uses(exam, gate.Gate) else None


@fault("every harmonic labelled even", inversion.inversion)
def wrong_parity(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    """The published Equiformer's labels, with the promise of O(3)."""
    labels = irreps.spherical_harmonics_irreps
    used = replaced(patch, exam, labels, lambda l_max, parity: labels(l_max, False))
    return prepare(exam.name) if used is not None else None


@fault("imaginary SO(2) weights", inversion.inversion)
def imaginary_weights(patch: pytest.MonkeyPatch, exam: Exam) -> Exam | None:
    if exam.family is not escn or exam.model.symmetry != "O(3)":
        return None
    config = dataclasses.replace(exam.config, symmetry="SE(3)", reference_energies=())
    model = exam.family.Model(config).to(torch.float64)
    model.symmetry = "O(3)"
    return dataclasses.replace(exam, model=model)
