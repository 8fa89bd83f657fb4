"""Weights in float32 against weights in float64."""

from collections.abc import Iterator

import torch

from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.subject import ModelSubject


@check("float32 weights give other results")
def single_precision(subject: ModelSubject) -> Iterator[Measured]:
    """Energies and forces within 1e-5 of those of float64, where forces are about 1 eV/Å."""
    rounded = subject.in_float32()
    for structure in (subject.clusters[0], subject.crystal):
        exact, got = subject.evaluate(structure), rounded.evaluate(structure)
        yield statement(got.energies.dtype == got.forces.dtype == torch.float64, "results are not float64")
        size = float(exact.forces.square().mean().sqrt().clamp(min=1.0))
        yield difference("energy eV", got.energies, exact.energies, 1e-5 * size, "float32 and float64")
        yield difference("force eV/Å", got.forces, exact.forces, 3e-5 * size, "float32 and float64")
        yield statement(not torch.equal(got.forces, exact.forces), "float32 has not been used")
