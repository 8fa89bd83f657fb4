"""Cost of a step outside the model: gate, neighbour list, assembly and ASE, with a model that takes no time.

python examples/benchmarks/calculator_overhead.py [--rounds 2000] [--json overhead.json]

One thread, atoms displaced by 0.02 Å (RMS) from step to step, r_max 5 Å, skin 0.5 Å.  Parts are timed one after the
other in every round, so that they share what else the machine does; a line is the median over the rounds, and the lower
decile in brackets.
"""

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

import eqff
from eqff.artifact.potential import Potential
from eqff.graph import check_cell, check_positions
from eqff.neighbors import VerletList
from eqff.potential import energy_forces_stress, voigt_stress

R_MAX, SKIN, STEP = 5.0, 0.5, 0.02  # Å


class Instant:
    """An evaluator with its answers ready."""

    def __init__(self) -> None:
        self.ready: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(
        self,
        species: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
        edge_vector: torch.Tensor,
        node_weight: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        size = (len(species), len(senders))
        if size not in self.ready:
            self.ready[size] = (torch.ones(size[0]).double(), torch.full((size[1], 3), 1e-3).double())
        return self.ready[size]


def potential() -> Potential:
    """A potential for H, C and O that does nothing."""
    return Potential(
        evaluator=Instant(), module=None, species=("H", "C", "O"), r_max=R_MAX, n_hops=1,
        dtype=torch.float64, device=torch.device("cpu"), header={},
    )  # fmt: skip


def water(n_side: int) -> Atoms:
    """n_side^3 molecules of water, turned at random, at the density of the liquid."""
    random, one, spacing = np.random.default_rng(0), molecule("H2O").positions, 3.107
    places = spacing * np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    turns, _ = np.linalg.qr(random.normal(size=(len(places), 3, 3)))
    positions = (one @ turns + places[:, None]).reshape(-1, 3)
    return Atoms("OHH" * len(places), positions, cell=np.eye(3) * spacing * n_side, pbc=True)


def moves(atoms: Atoms, n_moves: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [atoms.positions + random.normal(size=(len(atoms), 3)) * STEP for _ in range(n_moves)]


def timed(parts: Mapping[str, Callable[[np.ndarray], object]], path: list[np.ndarray], rounds: int) -> dict:
    """Name of a part -> (median, lower decile) of the time of a call, ms; call by call, part after part."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds):
        for name, part in parts.items():
            start = time.perf_counter()
            part(path[turn % len(path)])
            seconds[name].append(time.perf_counter() - start)
    return {name: tuple(1e3 * np.quantile(values, (0.5, 0.1))) for name, values in seconds.items()}


def small(atoms: Atoms, rounds: int) -> dict:
    """Parts of a step of a small structure."""
    atoms.calc = calculator = eqff.EqffCalculator(potential(), skin=SKIN)
    path = moves(atoms, 20)
    atoms.get_forces()
    species, cell, pbc = calculator._species_of(atoms), atoms.cell.array, atoms.pbc
    verlet = VerletList(R_MAX, SKIN)
    structure, edge_vector = verlet.update(atoms.positions, species, cell, pbc)
    result = energy_forces_stress(calculator.potential.evaluator, structure, edge_vector)

    def step(positions: np.ndarray) -> None:
        atoms.positions[:] = positions
        atoms.get_forces()
        atoms.get_potential_energy()

    parts: dict[str, Callable[[np.ndarray], object] | None] = {
        "whole step: get_forces, get_potential_energy": step,
        "  gate, positions (every step)": check_positions,
        "  gate, cell (when it changes)": lambda _: check_cell(cell, pbc),
        "  neighbour list with gate, edge vectors": lambda positions: verlet.update(positions, species, cell, pbc),
        "  assembly of energy, forces, strain": lambda _: energy_forces_stress(
            calculator.potential.evaluator, structure, edge_vector
        ),
        "  stress": (lambda _: voigt_stress(result.strain_gradient[0], structure.cell[0])) if pbc.all() else None,
        "  ASE: has anything changed, asked twice": lambda _: (
            calculator.check_state(atoms),
            calculator.check_state(atoms),
        ),
        "  ASE: copy of the atoms": lambda _: atoms.copy(),
    }
    return timed({name: part for name, part in parts.items() if part}, path, rounds)


def large(n_side: int, rounds: int) -> dict:
    """A box of water: search, step, memory."""
    atoms = water(n_side)
    atoms.calc = eqff.EqffCalculator(potential(), skin=SKIN)
    path = moves(atoms, 4)
    species = atoms.calc._species_of(atoms)
    lattice = (species, atoms.cell.array, atoms.pbc)
    verlet = VerletList(R_MAX, SKIN)
    tracemalloc.start()
    structure = verlet.structure(atoms.positions, *lattice)
    held, peak = (size / 1e6 for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()

    def step(positions: np.ndarray) -> None:
        atoms.positions[:] = positions
        atoms.get_forces()

    parts = {
        "search": lambda positions: VerletList(R_MAX, SKIN).structure(positions, *lattice),
        "list": lambda positions: verlet.update(positions, *lattice),
        "step": step,
    }
    times = timed(parts, path, max(4, rounds // 200))
    n_atoms, n_edges = len(atoms), len(structure.senders)
    return {"n_atoms": n_atoms, "n_edges": n_edges, "held_MB": held, "peak_MB": peak, **times}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"eqff {eqff.__version__}, torch {torch.__version__}, numpy {np.__version__}, 1 thread; ms: median [decile]\n"
    )
    boxed = molecule("CH3CH2OH")
    boxed.set_cell(np.eye(3) * 8.0)
    boxed.pbc = True
    record: dict[str, object] = {}
    for title, atoms in (("ethanol, 9 atoms", molecule("CH3CH2OH")), ("the same in a periodic box of 8 Å", boxed)):
        record[title] = table = small(atoms, arguments.rounds)
        print(title)
        for name, (median, decile) in table.items():
            print(f"  {name:48s} {median:7.4f} [{decile:.4f}]")
        print()
    print("water, periodic: search (once in many steps), list reused, whole step; memory held, and at most in a search")
    record["water"] = rows = [large(n_side, arguments.rounds) for n_side in (4, 6, 10, 15)]
    for row in rows:
        search, reuse, whole = (f"{row[name][0]:7.2f} [{row[name][1]:.2f}]" for name in ("search", "list", "step"))
        per_atom = f"{1e3 * row['step'][1] / row['n_atoms']:.1f} µs per atom"
        memory = f"{row['held_MB']:.0f} MB, {row['peak_MB']:.0f} MB"
        size = f"{row['n_atoms']:6d} atoms {row['n_edges']:7d} edges"
        print(f"{size} {search:>17s} {reuse:>15s} {whole:>15s} {per_atom}  {memory}")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
