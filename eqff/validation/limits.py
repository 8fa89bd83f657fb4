"""What rounding and finite differences may change: a table for each dtype, or measured on the subject itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from eqff.graph import Structure
from eqff.potential import EnergyForces

TINY_STEP = 1e-6  # Å: energies differ by rounding alone


class Jump(NamedTuple):
    """What a pair of atoms may still add when it is nearly r_max apart."""

    nearness: float  # of r_max: how far inside the cut-off
    energy: float  # eV
    force: float  # eV/Å


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Tolerances of one subject."""

    energy: float  # eV
    force: float  # eV/Å
    virial: float  # eV
    isolated: float  # eV, of atoms without edges, which no sum over neighbours disturbs
    repeat: tuple[float, float]  # eV, eV/Å: of two calls with the same input
    step: float  # Å, of finite differences
    slope: float  # eV/Å, of finite differences
    jumps: tuple[Jump, ...]
    scale: float = 1.0  # eV/Å, RMS force, at least 1


# Of models without reference energies whose forces are about 1 eV/Å: limits can be absolute.
EXACT = Limits(
    energy=1e-11,
    force=1e-11,
    virial=1e-10,
    isolated=1e-12,
    repeat=(0.0, 0.0),
    step=2e-4,
    slope=1e-7,
    jumps=(Jump(1e-4, 1e-8, 1e-4), Jump(1e-6, 1e-12, 1e-8)),
)
SINGLE = Limits(
    energy=1e-5,
    force=5e-5,
    virial=5e-4,
    isolated=1e-6,
    repeat=(0.0, 0.0),
    step=1e-2,
    slope=1e-3,
    jumps=(Jump(1e-6, 1e-5, 5e-5),),
)
OF_DTYPE = {torch.float64: EXACT, torch.float32: SINGLE}


def measured(
    evaluate: Callable[[Structure], EnergyForces],
    structures: Sequence[Structure],
    r_max: float,
    dtype: torch.dtype,
    seed: int = 0,
) -> Limits:
    """Limits of something about which nothing is known but how much it rounds.

    Rounding is what second differences show over a step so small that nothing else is left in them.

    Args: structures: ordinary ones; r_max: Å; dtype: of the weights; seed: of the directions of the steps
    """
    generator = torch.Generator().manual_seed(seed)
    energy = force = 0.0
    results = []
    for structure in structures:
        step = TINY_STEP * (2 * torch.rand(structure.positions.shape, generator=generator, dtype=torch.float64) - 1)
        plus, here, minus = (
            evaluate(structure._replace(positions=structure.positions + sign * step)) for sign in (1, 0, -1)
        )
        energy = max(energy, float((plus.energy - 2 * here.energy + minus.energy).abs().max()))
        force = max(force, float((plus.forces - 2 * here.forces + minus.forces).abs().max()))
        results.append(here)
    energy, force = 10 * energy + 1e-9, 10 * force + 1e-8
    scale = max(1.0, math.sqrt(float(torch.cat([result.forces for result in results]).square().mean())))
    size = max(float(result.energy.abs().max()) for result in results)
    largest = max(float(torch.cat([result.energies, result.energy]).abs().max()) for result in results)
    rounding = torch.finfo(dtype).eps
    force_limit = force + (1e-7 + 1000 * rounding) * scale
    fine = energy < 1e-7
    step_length = 1e-3 if fine else 1e-2
    return Limits(
        energy=energy + 10 * rounding * size,
        force=force_limit,
        virial=r_max * max(len(structure.positions) for structure in structures) * force_limit,
        isolated=1e-9 + 10 * rounding * largest,
        repeat=(1e-10 + 1e-12 * size, 1e-9),
        step=step_length,
        slope=(1e-6 if fine else 1e-3) * scale + energy / step_length,
        jumps=(Jump(1e-6, 1e-6 + energy, 1e-4 * scale + force),),
        scale=scale,
    )
