"""Atoms without any edge."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.graph import batch_structures
from eqff.validation.finding import Measured, check, difference, joined, same, statement
from eqff.validation.subject import EdgeSubject


@check("atoms without neighbours have no finite energy, or know of each other")
def isolated(subject: EdgeSubject) -> Iterator[Measured]:
    """Energies are finite, the same alone and together, and forces exactly zero."""
    alone = isolated_energies(subject)
    for kinds in (list(range(subject.n_species)), [1, 0, 1]):
        apart = 3.0 * subject.r_max * np.arange(len(kinds))[:, None] * np.ones(3)
        together = subject.evaluate(subject.structure(apart, kinds))
        expected = torch.tensor([alone[k % subject.n_species] for k in kinds], dtype=torch.float64)
        yield difference("energy eV", together.energies, expected, subject.limits.isolated, "together and alone")
        yield difference(
            "force eV/Å",
            together.forces,
            torch.zeros(len(kinds), 3, dtype=torch.float64),
            0.0,
            "forces on isolated atoms",
        )


@check("a lone atom in a batch is not as it is alone")
def lone_atom_in_a_batch(subject: EdgeSubject) -> Iterator[Measured]:
    """Without edges, between two molecules that have some."""
    molecules = subject.clusters[:2]
    parts = [molecules[0], subject.structure(np.ones((1, 3)), [1]), molecules[1]]
    whole = subject.evaluate(batch_structures(parts))
    results = [subject.evaluate(part) for part in parts]
    place = len(molecules[0].positions)
    yield statement(not bool(whole.forces[place].any()), "it feels a force")
    yield from same(subject, whole, joined(results), "a batch with a lone atom")


def isolated_energies(subject: EdgeSubject) -> list[float]:
    """Energy of an atom of each species without any edge, eV."""
    structures = [subject.structure(np.zeros((1, 3)), [k]) for k in range(subject.n_species)]
    return [float(subject.evaluate(structure).energy) for structure in structures]
