"""What is examined: the smallest model of a family, with weights as uneven as training leaves them."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from eqff import registry
from eqff.config import from_mapping, read_toml
from eqff.validation.limits import EXACT
from eqff.validation.subject import FamilySubject, sample

SMALLEST = Path(__file__).parent / "smallest"
UNEVEN = 0.2  # of its RMS: what is added to every weight


@dataclass(frozen=True, kw_only=True)
class Exam(FamilySubject):
    """A model in float64, without reference energies, whose forces are about 1 eV/Å."""

    name: str  # of the file in smallest/: a family or <family>-<variant>


def names() -> list[str]:
    """Every family of the registry that has a file in smallest/."""
    return [name for name in registry.names("models") if (SMALLEST / f"{name}.toml").exists()]


def without_file() -> list[str]:
    """Families of the registry that cannot be examined."""
    return [name for name in registry.names("models") if name not in names()]


def variants() -> list[str]:
    """Files <family>-<variant>.toml: what differs from the family's smallest configuration."""
    return sorted(path.stem for path in SMALLEST.glob("*-*.toml"))


@functools.cache
def prepared(name: str) -> Exam:
    """The exam of a family, made once; checks leave its model as it is."""
    return prepare(name)


def prepare(name: str) -> Exam:
    """As `prepared`, made anew."""
    family, config = read(name)
    plain = dataclasses.replace(config, reference_energies=(), energy_scale=1.0)
    r_max = float(config.r_max)
    exam = Exam(
        name=name,
        family=family,
        config=config,
        model=uneven(family.Model(plain)),
        n_species=len(config.species),
        r_max=r_max,
        structures=sample(r_max),
        limits=EXACT,
    )
    rms = float(exam.evaluate(exam.clusters[0]).forces.square().mean().sqrt())
    assert 1e-6 < rms < 1e6, f"{name}: forces of {rms:.1e} eV/Å from energy_scale=1, nothing can be examined"
    return dataclasses.replace(exam, model=uneven(family.Model(dataclasses.replace(plain, energy_scale=1.0 / rms))))


def read(name: str) -> tuple[ModuleType, Any]:
    """(family, its Config) of a family or variant."""
    stem = name.split("-")[0]
    family = registry.load("models", stem)
    mapping = read_toml(SMALLEST / f"{stem}.toml")
    if name != stem:
        mapping |= read_toml(SMALLEST / f"{name}.toml")
    return family, from_mapping(family.Config, mapping, where=f"smallest/{name}.toml")


def uneven(model: nn.Module) -> nn.Module:
    """The model in float64; weights that start as zeros or ones, such as biases, no longer hide what they do."""
    generator = torch.Generator().manual_seed(7)
    model = model.to(torch.float64)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                size = float(weight.square().mean().sqrt()) or 1.0
                weight += UNEVEN * size * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return model
