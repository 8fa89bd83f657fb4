"""Several structures whose potential is evaluated together: the images of a band, structures that relax side by side.

Each structure gets a calculator of its own with a neighbour list that serves several steps.  After structures have
moved, the first call for any of them evaluates all that have.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from eqff.artifact.potential import Potential, check_finite
from eqff.elements import species_index
from eqff.engines.ase.baseline import Baseline
from eqff.errors import EqffError
from eqff.graph import Structure, check_atoms, grouped, n_edges
from eqff.neighbors import VerletList

SKIN = 0.5  # Å


def share(
    structures: Sequence[Atoms], potential: Potential, baseline: Baseline | None = None, name: str = "image"
) -> None:
    """Give every structure a calculator that evaluates all of them together.

    Args: baseline: what is added to the potential's results, see `baseline.added_to`; name: of a structure in messages,
          before its number
    """
    group = _Group(list(structures), potential, baseline, name)
    for atoms in structures:
        atoms.calc = _Member(group)


class _Group:
    """Structures that are evaluated together."""

    def __init__(self, structures: list[Atoms], potential: Potential, baseline: Baseline | None, name: str) -> None:
        self.structures, self.potential, self.baseline, self.name = structures, potential, baseline, name

    def evaluate(self, caller: "_Member", atoms: Atoms) -> None:
        """Fill the calculator that was called, for these atoms, and that of every other structure that has moved.

        Raises: what is wrong with these atoms; what is wrong with others is raised when they are asked for
        """
        place = next((str(k) for k, one in enumerate(self.structures) if one.calc is caller), "?")
        stale = [(f"{self.name} {place}", caller, atoms, caller.structure(atoms, f"{self.name} {place}"))]
        for number, one in enumerate(self.structures):
            member = one.calc
            if not (isinstance(member, _Member) and member.group is self) or member is caller:
                continue  # the user has replaced the calculator of this structure
            if member.wanted and member.calculation_required(one, ["forces"]):
                where = f"{self.name} {number}"
                try:
                    stale.append((where, member, one, member.structure(one, where)))
                except EqffError:
                    continue
        for group in grouped(stale, lambda job: n_edges(job[3]), self.potential.max_edges()):
            predictions = self.potential.predict_batch([job[3] for job in group])
            for (where, member, one, _), prediction in zip(group, predictions, strict=True):
                try:
                    check_finite(prediction, where)
                    if self.baseline is not None:
                        plain = (one.positions, one.numbers, one.cell.array, one.pbc)
                        prediction = self.baseline.added(prediction, *plain, where)
                except EqffError:
                    if member is caller:
                        raise
                    continue
                member.fill(one, prediction)


class _Member(Calculator):
    """Calculator of one structure of a group."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  ASE's own form
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(self, group: _Group) -> None:
        super().__init__()
        self.group, self.wanted = group, True  # False: nobody asks for it any more
        self.neighbors = VerletList(group.potential.r_max, SKIN)
        self.numbers, self.species = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def structure(self, atoms: Atoms, where: str) -> Structure:
        """The atoms with their edges.  Raises: GraphError for an invalid structure"""
        potential = self.group.potential
        if not np.array_equal(atoms.numbers, self.numbers):
            check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, where)
            self.species = species_index(atoms.numbers, potential.species, where)
            self.numbers = atoms.numbers.copy()
        return self.neighbors.structure(atoms.positions, self.species, atoms.cell.array, atoms.pbc, potential.device)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.group.evaluate(self, self.atoms)
        if "stress" in properties and "stress" not in self.results:
            raise PropertyNotImplementedError("stress needs a structure periodic in three directions")

    def fill(self, atoms: Atoms, prediction: Any) -> None:
        """Results for these atoms."""
        self.atoms = atoms.copy()
        results = {"free_energy": prediction.energy, **prediction._asdict()}
        self.results = {name: value for name, value in results.items() if value is not None}
