"""The same structure elsewhere: energies and forces differ by the rounding of coordinates alone."""

from collections.abc import Iterator

import torch

from eqff.validation.finding import Measured, check, same
from eqff.validation.subject import Subject

# Å, and by how much the rounding of coordinates there exceeds that of the results.
SHIFTS = (((1.7, -0.3, 11.0), 1.0), ((-1e4, 3e3, 2e4), 1000.0))


@check("results depend on the place")
def translation(subject: Subject) -> Iterator[Measured]:
    for structure in subject.structures:
        still = subject.evaluate(structure)
        for shift, more in SHIFTS:
            moved = structure._replace(positions=structure.positions + torch.tensor(shift, dtype=torch.float64))
            where = f"{len(structure.positions)} atoms moved by {shift} Å"
            yield from same(subject, subject.evaluate(moved), still, where, more)
