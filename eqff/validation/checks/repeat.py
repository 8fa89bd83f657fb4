"""The same input gives the same numbers."""

from collections.abc import Iterator

import torch

from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.subject import ModelSubject, Subject


@check("repeated calls differ: dropout left on, or the program keeps a state")
def repeat(subject: Subject) -> Iterator[Measured]:
    """Three more calls, those of other structures between them."""
    energy, force = subject.limits.repeat
    first = [subject.evaluate(structure) for structure in subject.structures]
    for _ in range(3):
        for structure, before in zip(subject.structures, first, strict=True):
            again = subject.evaluate(structure)
            where = f"{len(structure.positions)} atoms again"
            yield difference("energy eV", again.energy, before.energy, energy, where)
            yield difference("energy eV", again.energies, before.energies, energy, where)
            yield difference("force eV/Å", again.forces, before.forces, force, where)


@check("a call changes the model")
def unchanged_state(subject: ModelSubject) -> Iterator[Measured]:
    """Nothing in the model's state moves."""
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    subject.evaluate(subject.clusters[0])
    after = subject.model.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    yield statement(not changed, f"changed: {', '.join(changed)}")
