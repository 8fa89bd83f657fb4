"""O(3): mirror images have equal energies.  SE(3): they have not, or else O(3) should be promised."""

from collections.abc import Iterator

import torch

from eqff.validation.finding import Measured, check, same, statement
from eqff.validation.subject import Subject
from eqff.validation.turns import turned, turned_results


@check("mirror images do not have the energies that the symmetry promises")
def inversion(subject: Subject) -> Iterator[Measured]:
    yield statement(subject.symmetry in ("O(3)", "SE(3)"), f"symmetry={subject.symmetry!r}, expected O(3) or SE(3)")
    inverted = -torch.eye(3, dtype=torch.float64)
    if subject.symmetry == "SE(3)":
        structure = subject.clusters[0]
        change = subject.evaluate(turned(structure, inverted)).energy - subject.evaluate(structure).energy
        differs = float(change.abs()) > 1e-6
        yield statement(differs, f"inversion changes the energy by {float(change):.1e} eV: this is O(3), promise it")
        return
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    for structure in subject.structures:
        still = subject.evaluate(structure)
        for matrix, how in ((inverted, "inverted"), (mirror, "in a mirror")):
            got = subject.evaluate(turned(structure, matrix))
            yield from same(subject, got, turned_results(still, matrix), f"{len(structure.positions)} atoms {how}")
