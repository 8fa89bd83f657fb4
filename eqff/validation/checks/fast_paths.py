"""The names that fast paths look for: a family that gives others computes the same more slowly."""

from collections.abc import Iterator

from eqff.nn.fast import layers
from eqff.validation.finding import Measured, check, statement
from eqff.validation.subject import FamilySubject


@check("layers miss fast paths that the family does not give up")
def fast_paths(subject: FamilySubject) -> Iterator[Measured]:
    """Every layer is on the paths kernel, spline and shared, but for those in SLOW_PATHS of its family."""
    allowed = getattr(subject.family, "SLOW_PATHS", ())
    missed = [row for row in layers.fast_paths(subject.model) if row.reason and row.path not in allowed]
    yield statement(not missed, "; ".join(str(row) for row in missed))
