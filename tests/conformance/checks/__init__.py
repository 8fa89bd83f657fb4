"""What is checked: plain functions of an Exam that raise AssertionError, by subject."""

from collections.abc import Callable
from types import ModuleType

from ..exam import Exam
from . import contract, derivatives, locality, precision, smoothness, symmetry

Check = Callable[[Exam], None]


def checks_of(subject: ModuleType) -> list[Check]:
    """The functions of a module that take an exam and give nothing."""
    return [
        value
        for value in vars(subject).values()
        if getattr(value, "__module__", None) == subject.__name__
        and getattr(value, "__annotations__", None) == {"exam": Exam, "return": None}
    ]


CHECKS = {
    f"{subject.__name__.split('.')[-1]}.{check.__name__}": check
    for subject in (symmetry, locality, smoothness, derivatives, contract, precision)
    for check in checks_of(subject)
}
