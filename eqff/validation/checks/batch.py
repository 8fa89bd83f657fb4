"""Structures in one call do not know of each other, nor do molecules that are far apart."""

from collections.abc import Iterator

import numpy as np

from eqff.graph import batch_structures
from eqff.validation.finding import Measured, check, joined, same
from eqff.validation.subject import EdgeSubject, Subject


@check("atoms of different structures in one call know of each other")
def batch(subject: EdgeSubject) -> Iterator[Measured]:
    """Of different shapes, periodic and not."""
    together = subject.evaluate(batch_structures(list(subject.structures)))
    parts = [subject.evaluate(structure) for structure in subject.structures]
    yield from same(subject, together, joined(parts), "together and one by one")


@check("molecules far apart know of each other")
def fragments(subject: Subject) -> Iterator[Measured]:
    """Molecules that do not see each other add up."""
    one, other = subject.clusters[:2]
    far = 20.0 * subject.r_max
    points = np.vstack([one.positions.numpy(), other.positions.numpy() + far])
    together = subject.evaluate(subject.structure(points, np.concatenate([one.species, other.species])))
    parts = joined([subject.evaluate(part) for part in (one, other)])
    got = together._replace(strain_gradient=parts.strain_gradient)
    expected = parts._replace(energy=parts.energy.sum(0, keepdim=True))
    yield from same(subject, got, expected, "two distant molecules")
