"""What a fault is, and how a model is broken while a context lasts."""

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eqff.validation.finding import Check

from ..exam import Exam

Plant = Callable[[pytest.MonkeyPatch, Exam], Exam | None]


class Fault(NamedTuple):
    """Something broken."""

    what: str
    red: tuple[Check, ...]  # each of them must fail
    plant: Plant  # gives the exam with the fault, None for a family without such a block
    variants: tuple[str, ...] = ()  # in which it is planted, instead of in every family


FAULTS: list[Fault] = []


def fault(what: str, *red: Check, variants: tuple[str, ...] = ()) -> Callable[[Plant], Plant]:
    """Register a function that plants a fault."""

    def register(plant: Plant) -> Plant:
        FAULTS.append(Fault(what, red, plant, variants))
        return plant

    return register


@contextmanager
def planted(fault: Fault, exam: Exam) -> Iterator[Exam | None]:
    """The broken exam, as long as the context lasts."""
    with pytest.MonkeyPatch.context() as patch:
        yield fault.plant(patch, exam)


def uses(exam: Exam, block: type) -> bool:
    return any(isinstance(module, block) for module in exam.model.modules())


def replaced(patch: pytest.MonkeyPatch, exam: Exam, function: Any, other: Any) -> Exam | None:
    """The exam with `other` wherever eqff has imported `function`; None if no block of the model comes from there."""
    name = function.__name__
    files = {key: m for key, m in sys.modules.items() if key.startswith("eqff.") and getattr(m, name, None) is function}
    for file in files.values():
        patch.setattr(file, name, other)
    return exam if any(type(module).__module__ in files for module in exam.model.modules()) else None


def wrapped(exam: Exam, method: str, wrap: Callable[..., Any]) -> Exam:
    """The exam of a copy of the model whose `method` is wrap(original, *arguments)."""
    model = copy.deepcopy(exam.model)
    original = getattr(model, method)
    setattr(model, method, lambda *arguments: wrap(original, *arguments))
    return dataclasses.replace(exam, model=model)


def summed(exam: Exam, change: Callable[[Tensor, Tensor], Tensor]) -> Exam:
    """Change what is added up over neighbours: every family does that with index_add, by receivers."""

    class Changed(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            if function is Tensor.index_add and arguments[3].shape[0] > 0:
                arguments = (*arguments[:3], change(arguments[3], arguments[2]))
            return function(*arguments, **(options or {}))

    def watched(forward: Any, *arguments: Tensor) -> Tensor:
        with Changed():
            return forward(*arguments)

    return wrapped(exam, "forward", watched)


def noticed(check: Check, exam: Exam) -> bool:
    """Whether a check goes red."""
    return not check(exam).passed
