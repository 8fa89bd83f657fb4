"""What a check gives: measurements with limits, summed up in a finding with a sentence."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import torch

from eqff.potential import EnergyForces
from eqff.validation.subject import Subject

S = TypeVar("S", bound=Subject)


class Measured(NamedTuple):
    """One number and its limit, or a statement that holds (0) or not (1)."""

    quantity: str  # its unit comes last, e.g. "force eV/Å"; empty for a statement
    value: float
    limit: float
    where: str  # what was compared; of a statement, the sentence that is true when it does not hold

    @property
    def excess(self) -> float:
        """Value over limit; infinite for NaN."""
        if self.value <= self.limit:
            return self.value / self.limit if self.limit > 0 else 0.0
        return math.inf if math.isnan(self.value) or self.limit == 0 else self.value / self.limit

    @property
    def sentence(self) -> str:
        if not self.quantity:
            return self.where
        unit = self.quantity.split()[-1]
        return f"{self.where}: {self.quantity} off by {self.value:.1e} {unit}, allowed {self.limit:.0e}"


class Finding(NamedTuple):
    """The outcome of a check, as it is stored in the header of a wrapped file; numbers that are not finite are None."""

    check: str
    passed: bool
    measured: dict[str, float | None]  # by quantity and unit, e.g. "energy eV"; the worst against its limit
    limit: dict[str, float | None]
    note: str = ""  # what is wrong, empty if nothing is


@dataclass(frozen=True)
class Check(Generic[S]):
    """A function of a subject that measures; called, it sums up what was measured."""

    name: str
    fault: str  # what is wrong with a subject that fails
    needs: type[S]
    measure: Callable[[S], Iterator[Measured]]

    def suits(self, subject: Subject) -> bool:
        """Whether the subject can do what the check needs."""
        return isinstance(subject, self.needs)

    def __call__(self, subject: S) -> Finding:
        worst: dict[str, Measured] = {}
        for measured in self.measure(subject):
            before = worst.get(measured.quantity)
            if before is None or measured.excess > before.excess:
                worst[measured.quantity] = measured
            if not measured.quantity and measured.excess > 0:
                break  # what follows relies on the statement
        wrong = [m for m in worst.values() if not m.value <= m.limit]
        numbers = [m for m in worst.values() if m.quantity]
        return Finding(
            self.name,
            not wrong,
            {m.quantity: m.value if math.isfinite(m.value) else None for m in numbers},
            {m.quantity: m.limit if math.isfinite(m.limit) else None for m in numbers},
            f"{self.fault} ({max(wrong, key=lambda m: m.excess).sentence})" if wrong else "",
        )


def check(fault: str) -> Callable[[Callable[[S], Iterator[Measured]]], Check[S]]:
    """Make a check of a function `name(subject: <what it needs>) -> Iterator[Measured]`.

    Args: fault: what is wrong with a subject that fails
    """

    def made(measure: Callable[[S], Iterator[Measured]]) -> Check[S]:
        return Check(measure.__name__, fault, get_type_hints(measure)["subject"], measure)

    return made


def statement(holds: bool, otherwise: str) -> Measured:
    """Something that is true or false; the check ends where it is false."""
    return Measured("", 0.0 if holds else 1.0, 0.0, otherwise)


def difference(quantity: str, got: Any, expected: Any, limit: float, where: str) -> Measured:
    """The largest difference of two arrays."""
    got, expected = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    if got.shape != expected.shape:
        return statement(False, f"{where}: {quantity} of shapes {list(got.shape)} and {list(expected.shape)}")
    return Measured(quantity, float((got - expected).abs().max()) if got.numel() else 0.0, limit, where)


def same(
    subject: Subject, got: EnergyForces, expected: EnergyForces, where: str, more: float = 1.0
) -> Iterator[Measured]:
    """Energies of atoms (of structures, where the subject gives no others), forces and virial agree to rounding.

    Args: more: factor of the limits
    """
    limits, atoms = subject.limits, len(expected.energies) > 0
    energies = (got.energies, expected.energies) if atoms else (got.energy, expected.energy)
    yield difference("energy eV", *energies, more * limits.energy, where)
    yield difference("force eV/Å", got.forces, expected.forces, more * limits.force, where)
    yield difference("virial eV", got.strain_gradient, expected.strain_gradient, more * limits.virial, where)


def joined(results: Sequence[EnergyForces]) -> EnergyForces:
    """Results of several structures as those of one batch."""
    return EnergyForces(*(torch.cat(parts) for parts in zip(*results, strict=True)))
