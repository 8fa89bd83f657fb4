"""Verdict on a foreign model: what eqff relies on is measured on random structures, not believed.

adapter    energy and forces are those of the unchanged program on real positions (dictionary models)
gradient   F . d = -dE/dx along random directions: nothing is cut out of the gradient
n_hops     how far along a chain of atoms the energy of the first depends on edges
isolated   atoms without any edge have finite energies, the same alone and together
batch      energies and forces of two structures in one call are those of two calls
repeat     the same input gives the same numbers
direction  an edge changes the energy of the atom that receives it, not of its sender
rotation, inversion, translation, permutation     of energy and forces
cutoff     energy and forces do not jump when an atom crosses r_max
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqff.artifact.foreign import STOPS
from eqff.errors import PotentialError
from eqff.exporter import measure_n_hops
from eqff.graph import Structure, batch_structures
from eqff.neighbors import build_structure
from eqff.potential import EnergyForces, Evaluator, energy_forces_stress
from eqff.validation.random_structures import permuted, random_structures, rotation_matrix, translated, unit_vector

# Faults that make results wrong: no file is written unless the user accepts them.
DECISIVE = ("adapter", "gradient", "n_hops", "isolated", "batch", "repeat")
MAX_HOPS = 8
CROSSING = 1e-6  # of r_max: how near to the cut-off the crossing atom is
TINY_STEP = 1e-6  # Å: energies differ by rounding alone
STENCIL = ((-2, 1), (-1, -8), (1, 8), (2, -1))  # fourth-order central difference, over 12 steps


class Check(NamedTuple):
    """One measurement; not finite numbers are None."""

    check: str
    passed: bool
    measured: dict[str, float | None]  # by quantity and unit, e.g. "energy eV"
    limit: dict[str, float | None]
    note: str = ""


class Unchanged(NamedTuple):
    """A program before and after adaptation, with the weights it was stored with."""

    real: Callable[[Structure], tuple[float, Tensor]]  # on real positions: energy eV, forces [n_atoms, 3] eV/Å
    adapted: Evaluator
    dtype: torch.dtype


class Noise(NamedTuple):
    """Rounding of results, measured, and the scale of forces."""

    energy: float  # eV, of a structure
    force: float  # eV/Å
    scale: float  # eV/Å, RMS force, at least 1
    rounding: float  # relative, of the weights' dtype


def examine(
    evaluator: Evaluator,
    species: Sequence[str],
    r_max: float,
    stated_hops: int | None = None,
    unchanged: Unchanged | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Check]:
    """All checks, decisive ones first.

    Args:    evaluator: in eV and Å; species: symbols; r_max Å; stated_hops: receptive field the user states;
             unchanged: the program itself, for a check of the adapter; dtype: of the evaluator's weights;
             seed: of the random structures
    Raises:  PotentialError for a program that stops, or gives numbers that are not finite, on an ordinary structure
    """
    random = np.random.default_rng(seed)
    structures = random_structures(species, r_max, random)
    try:
        results = [energy_forces_stress(evaluator, structure) for structure in structures]
        for structure, result in zip(structures, results, strict=True):
            if not bool(torch.isfinite(result.forces).all() & torch.isfinite(result.energies).all()):
                elements = " ".join(species[k] for k in structure.species.tolist())
                raise PotentialError(
                    "EQ4331",
                    f"energies or forces of a random structure ({elements}) are not finite; check --species, --r-max "
                    "and --units",
                )
        noise = _noise(evaluator, structures, results, dtype, random)
        return list(_checks(evaluator, species, r_max, stated_hops, unchanged, structures, results, noise, random))
    except STOPS as error:
        raise PotentialError(
            "EQ4332", f"the program stops on a random structure: {_said(error)}; check --species and --r-max"
        ) from error


def _checks(
    evaluator: Evaluator,
    species: Sequence[str],
    r_max: float,
    stated_hops: int | None,
    unchanged: Unchanged | None,
    structures: list[Structure],
    results: list[EnergyForces],
    noise: Noise,
    random: np.random.Generator,
) -> Iterator[Check]:
    if unchanged is not None:
        yield _adapter(unchanged, structures, random)
    yield _gradient(evaluator, structures, results, noise, random)
    yield _n_hops(evaluator, len(species), r_max, stated_hops)
    yield _isolated(evaluator, len(species), r_max, noise)
    yield _batch(evaluator, structures, results, noise)
    yield _repeat(evaluator, structures, results)
    yield _direction(evaluator, len(species), r_max)
    turn = torch.tensor(rotation_matrix(random))
    yield _transformed("rotation", evaluator, structures, results, noise, turn)
    yield _transformed("inversion", evaluator, structures, results, noise, -torch.eye(3, dtype=torch.float64))
    yield _moved("translation", evaluator, structures, results, noise, translated, random)
    yield _moved("permutation", evaluator, structures, results, noise, permuted, random)
    yield _cutoff(evaluator, len(species), r_max, structures, noise, random)


def _noise(
    evaluator: Evaluator,
    structures: list[Structure],
    results: list[EnergyForces],
    dtype: torch.dtype,
    random: np.random.Generator,
) -> Noise:
    """Second differences over a step so small that only rounding is left in them."""
    energy = force = 0.0
    for structure, result in zip(structures, results, strict=True):
        step = TINY_STEP * torch.tensor(random.uniform(-1, 1, tuple(structure.positions.shape)))
        plus, minus = (_at(evaluator, structure, structure.positions + sign * step) for sign in (1, -1))
        energy = max(energy, float((plus.energy - 2 * result.energy + minus.energy).abs().max()))
        force = max(force, float((plus.forces - 2 * result.forces + minus.forces).abs().max()))
    rms = math.sqrt(float(torch.cat([result.forces for result in results]).square().mean()))
    return Noise(10 * energy + 1e-9, 10 * force + 1e-8, max(1.0, rms), torch.finfo(dtype).eps)


def _adapter(unchanged: Unchanged, structures: list[Structure], random: np.random.Generator) -> Check:
    energy_error = force_error = 0.0
    note = "the program uses positions otherwise than in edge vectors"
    results = [energy_forces_stress(unchanged.adapted, structure) for structure in structures]
    noise = _noise(unchanged.adapted, structures, results, unchanged.dtype, random)
    try:
        for structure, result in zip(structures, results, strict=True):
            energy, forces = unchanged.real(structure)
            energy_error = max(energy_error, abs(energy - float(result.energy)))
            force_error = max(force_error, float((forces - result.forces).abs().max()))
    except (*STOPS, KeyError) as error:
        energy_error = force_error = math.nan
        note = f"the unchanged program stops: {_said(error)}"
    return _check("adapter", (energy_error, force_error), _tolerance(results, noise), note)


def _gradient(
    evaluator: Evaluator,
    structures: list[Structure],
    results: list[EnergyForces],
    noise: Noise,
    random: np.random.Generator,
) -> Check:
    """Edges stay the same while atoms move, so that a jump at the cut-off does not disturb."""
    step = 1e-3 if noise.energy < 1e-7 else 1e-2  # Å
    error = 0.0
    for structure, result in zip(structures, results, strict=True):
        for _ in range(3):
            direction = torch.tensor(random.uniform(-1, 1, tuple(structure.positions.shape)))
            slope = sum(
                weight * float(_at(evaluator, structure, structure.positions + k * step * direction).energy)
                for k, weight in STENCIL
            ) / (12 * step)
            error = max(error, abs(slope + float((result.forces * direction).sum())))
    limit = 1e-6 * noise.scale if step < 5e-3 else 1e-3 * noise.scale
    limit += noise.energy / step
    return _single("gradient", "force eV/Å", error, limit, "forces are not the gradient of the energy")


def _n_hops(evaluator: Evaluator, n_species: int, r_max: float, stated: int | None) -> Check:
    """The largest of several chains: a derivative may vanish by chance."""
    longest = max(MAX_HOPS, stated or 0)
    hops = 0
    for offset in range(min(n_species, 3)):

        def shifted(species: Tensor, *edges: Tensor, offset: int = offset) -> Tensor:
            return evaluator.model((species + offset) % n_species, *edges)  # type: ignore[attr-defined, no-any-return]

        hops = max(hops, measure_n_hops(shifted, longest, r_max, n_species))  # type: ignore[arg-type]
    limit = longest if stated is None else stated
    note = f"the energy of an atom depends on edges of {hops} hops or more"
    return _single("n_hops", "hops", hops, limit, note)


def _isolated(evaluator: Evaluator, n_species: int, r_max: float, noise: Noise) -> Check:
    error, note = math.nan, "atoms without neighbours have no finite energy"
    try:
        together = isolated_energies(evaluator, list(range(n_species)), r_max)
        alone = [isolated_energies(evaluator, [k], r_max)[0] for k in range(n_species)]
        differences = [abs(a - b) for a, b in zip(together, alone, strict=True)]
        error = math.nan if any(math.isnan(x) for x in differences) else max(differences)
    except STOPS as failure:
        note = f"the program stops without edges: {_said(failure)}"
        return _single("isolated", "energy eV", math.nan, 1e-9, note)
    limit = 1e-9 + 10 * noise.rounding * max(map(abs, alone))
    return _single("isolated", "energy eV", error, limit, note)


def isolated_energies(evaluator: Evaluator, kinds: list[int], r_max: float) -> list[float]:
    """Energies, eV, of atoms of these species without any edge."""
    points = 3.0 * r_max * np.arange(len(kinds))[:, None] * np.array([[1.0, 0.0, 0.0]])
    structure = build_structure(points, np.array(kinds), np.zeros((3, 3)), np.zeros(3, bool), r_max)
    return [float(energy) for energy in energy_forces_stress(evaluator, structure).energies]


def _batch(evaluator: Evaluator, structures: list[Structure], results: list[EnergyForces], noise: Noise) -> Check:
    result = energy_forces_stress(evaluator, batch_structures(structures))
    energy = float((result.energies - torch.cat([r.energies for r in results])).abs().max())
    force = float((result.forces - torch.cat([r.forces for r in results])).abs().max())
    limits = _tolerance(results, noise)
    return _check("batch", (energy, force), limits, "atoms of different structures in one call know of each other")


def _repeat(evaluator: Evaluator, structures: list[Structure], results: list[EnergyForces]) -> Check:
    energy = force = 0.0
    for _ in range(3):
        for structure, result in zip(structures, results, strict=True):
            again = energy_forces_stress(evaluator, structure)
            energy = max(energy, float((again.energies - result.energies).abs().max()))
            force = max(force, float((again.forces - result.forces).abs().max()))
    size = max(float(result.energies.abs().max()) for result in results)
    note = "repeated calls differ: dropout left on, or the program keeps a state"
    return _check("repeat", (energy, force), (1e-10 + 1e-12 * size, 1e-9), note)


def _direction(evaluator: Evaluator, n_species: int, r_max: float) -> Check:
    """Two separate edges, 0 <- 1 and 2 <- 3; the first becomes longer."""
    vector = torch.tensor([[0.5 * r_max, 0.0, 0.0], [0.0, 0.6 * r_max, 0.0]], dtype=torch.float64)
    weight, species = torch.ones(4, dtype=torch.float64), torch.arange(4) % n_species
    moved = vector.clone()
    moved[0] *= 1.1
    energies = [evaluator(species, torch.tensor([1, 3]), torch.tensor([0, 2]), v, weight)[0] for v in (vector, moved)]
    change = torch.nan_to_num(energies[1] - energies[0]).abs()  # without edges may be NaN: that is `isolated`
    wrong = float(change[1:].max())
    note = "an edge changes its sender's energy: wrong where lists are directed (ghost atoms), right in ASE"
    return _single("direction", "energy eV", wrong, 1e-9 + 1e-6 * float(change[0]), note)


def _transformed(
    name: str,
    evaluator: Evaluator,
    structures: list[Structure],
    results: list[EnergyForces],
    noise: Noise,
    matrix: Tensor,
) -> Check:
    energy = force = 0.0
    for structure, result in zip(structures, results, strict=True):
        turned = structure._replace(positions=structure.positions @ matrix, cell=structure.cell @ matrix)
        got = energy_forces_stress(evaluator, turned)
        energy = max(energy, float((got.energies - result.energies).abs().max()))
        force = max(force, float((got.forces - result.forces @ matrix).abs().max()))
    return _check(name, (energy, force), _tolerance(results, noise), "broken symmetry")


def _moved(
    name: str,
    evaluator: Evaluator,
    structures: list[Structure],
    results: list[EnergyForces],
    noise: Noise,
    move: Callable[[Structure, np.random.Generator], tuple[Structure, Tensor]],
    random: np.random.Generator,
) -> Check:
    energy = force = 0.0
    for structure, result in zip(structures, results, strict=True):
        other, order = move(structure, random)
        got = energy_forces_stress(evaluator, other)
        energy = max(energy, float((got.energies - result.energies[order]).abs().max()))
        force = max(force, float((got.forces - result.forces[order]).abs().max()))
    return _check(name, (energy, force), _tolerance(results, noise), "broken symmetry")


def _cutoff(
    evaluator: Evaluator,
    n_species: int,
    r_max: float,
    structures: list[Structure],
    noise: Noise,
    random: np.random.Generator,
) -> Check:
    """One atom more, just inside r_max of another one: with and without the edges between the two.

    For every species as the other atom, in its surroundings, and as the new atom.
    """
    energy = force = 0.0
    for structure in structures[:-1]:  # the last is periodic
        n_atoms = structure.positions.shape[0]
        for _ in range(max(4, math.ceil(n_species / 2))):
            center = int(random.integers(n_atoms))
            there = structure.positions[center].numpy() + (1 - CROSSING) * r_max * unit_vector(random)
            distance = np.linalg.norm(structure.positions.numpy() - there, axis=1)
            if distance.min() < 0.3 * r_max:
                continue
            points = np.vstack([structure.positions.numpy(), there])
            species = np.append(structure.species.numpy(), random.integers(n_species))
            inside = build_structure(points, species, np.zeros((3, 3)), np.zeros(3, bool), r_max)
            pair = (inside.senders == n_atoms) & (inside.receivers == center)
            pair |= (inside.receivers == n_atoms) & (inside.senders == center)
            outside = inside._replace(
                senders=inside.senders[~pair],
                receivers=inside.receivers[~pair],
                edge_shift=inside.edge_shift[~pair],
            )
            near, far = (energy_forces_stress(evaluator, s) for s in (inside, outside))
            energy = max(energy, float((near.energy - far.energy).abs().max()))
            force = max(force, float((near.forces - far.forces).abs().max()))
    limits = (1e-6 + noise.energy, 1e-4 * noise.scale + noise.force)
    return _check("cutoff", (energy, force), limits, "jumps when an atom crosses r_max: energy drifts in dynamics")


def _at(evaluator: Evaluator, structure: Structure, positions: Tensor) -> EnergyForces:
    """Results at other positions with the same edges."""
    moved = structure._replace(positions=positions)
    return energy_forces_stress(evaluator, moved)


def _tolerance(results: list[EnergyForces], noise: Noise) -> tuple[float, float]:
    """Energy eV, force eV/Å."""
    size = max(float(result.energy.abs().max()) for result in results)
    return noise.energy + 10 * noise.rounding * size, noise.force + (1e-7 + 1000 * noise.rounding) * noise.scale


def _check(name: str, measured: tuple[float, float], limits: tuple[float, float], note: str) -> Check:
    """Energy and force errors against their limits; NaN fails."""
    passed = all(x <= limit for x, limit in zip(measured, limits, strict=True))
    units = ("energy eV", "force eV/Å")
    return Check(name, passed, _numbers(units, measured), _numbers(units, limits), "" if passed else note)


def _single(name: str, quantity: str, measured: float, limit: float, note: str) -> Check:
    passed = measured <= limit
    return Check(
        name, passed, _numbers((quantity,), (measured,)), _numbers((quantity,), (limit,)), "" if passed else note
    )


def _numbers(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}


def _said(error: Exception) -> str:
    """The last line of an error, where TorchScript puts the reason."""
    return (str(error).strip().splitlines() or [repr(error)])[-1][:200]
