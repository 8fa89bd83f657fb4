"""All checks by name, and running several of them on one subject."""

from collections.abc import Iterable, Iterator
from functools import cache

from eqff import registry
from eqff.artifact.foreign import STOPS
from eqff.errors import ConfigError, last_line
from eqff.validation.finding import Check, Finding
from eqff.validation.subject import Subject


@cache
def checks() -> dict[str, Check]:
    """Every check of every file in eqff/validation/checks, by name."""
    found: dict[str, Check] = {}
    for name in registry.names("validation.checks"):
        module = registry.load("validation.checks", name)
        mine = [x for x in vars(module).values() if isinstance(x, Check) and x.measure.__module__ == module.__name__]
        found |= {check.name: check for check in mine}
    return found


def checks_for(subject: Subject) -> list[Check]:
    """The checks whose needs the subject meets."""
    return [check for check in checks().values() if check.suits(subject)]


def examine(subject: Subject, names: Iterable[str] | None = None) -> Iterator[Finding]:
    """Run checks; a subject that stops with an error of torch has failed the check.

    Args:    names: of checks, in this order; None for all that the subject suits
    Raises:  ConfigError EQ1963 for a name that is no check, EQ1964 for a check that needs more than the subject can do
    """
    for check in checks_for(subject) if names is None else [_named(name, subject) for name in names]:
        try:
            finding = check(subject)
        except (*STOPS, KeyError) as error:
            finding = Finding(check.name, False, {}, {}, f"{check.fault} (it stops: {last_line(error)[:200]})")
        yield finding


def _named(name: str, subject: Subject) -> Check:
    check = checks().get(name)
    if check is None:
        raise ConfigError("EQ1963", f"check={name!r} is unknown; choose from {', '.join(checks())}")
    if not check.suits(subject):
        raise ConfigError(
            "EQ1964", f"check={name!r} needs a {check.needs.__name__}, not a {type(subject).__name__}; leave it out"
        )
    return check
