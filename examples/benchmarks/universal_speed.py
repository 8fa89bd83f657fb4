"""Time of an MD step of SevenNet's published weights: eqff (compiled) beside sevenn's own calculator.

python examples/benchmarks/universal_speed.py 7net-0 --sevenn-python .peers/sevenn/bin/python -o speed [--threads 1 2]

All sides move the same atoms, each through its own ASE calculator in a process of its own: energy, forces and stress as
ASE's integrators ask for them, neighbour list included. They take turns, round by round; ratios are medians of rounds.
Before anything is timed, energies and forces of the sides are compared. --scaling times eqff on copper of 256 to 10,976
atoms instead. Writes results.json and prints a table.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal
from sides import SPRING, Side
from structures import thermal, water

import eqff


def lithium_iron_phosphate() -> Atoms:
    """Olivine, 112 atoms; coordinates of Streltsov et al., Acta Cryst. B 49, 147 (1993), rounded."""
    places = [
        *((0.0, 0.0, 0.0), (0.2822, 0.25, 0.9747), (0.0948, 0.25, 0.4182)),
        *((0.0968, 0.25, 0.7428), (0.4571, 0.25, 0.2060), (0.1656, 0.0465, 0.2848)),
    ]
    cell = [10.332, 6.010, 4.692, 90, 90, 90]
    return crystal(["Li", "Fe", "P", "O", "O", "O"], places, spacegroup=62, cellpar=cell).repeat((1, 2, 2))


SYSTEMS = {
    "ethanol": lambda: molecule("CH3CH2OH"),
    "108 Cu": lambda: bulk("Cu", cubic=True).repeat(3),
    "LiFePO4": lithium_iron_phosphate,
    "64 H2O": lambda: water(4),
    "216 Si": lambda: bulk("Si", cubic=True).repeat(3),
}
SCALING = {f"{4 * n**3} Cu": lambda n=n: bulk("Cu", cubic=True).repeat(n) for n in (4, 6, 9, 14)}
PROGRAMS: dict[str, dict[str, Any]] = {"eqff exact": {"exact": True}, "eqff splines": {}}
LONGEST = 30  # steps of a round


def request(atoms: Atoms) -> dict[str, Any]:
    """What a worker needs to start the dynamics."""
    positions, velocities = thermal(atoms, 300.0, SPRING)
    told: dict[str, Any] = {"numbers": atoms.numbers.tolist(), "positions": positions.tolist()}
    told |= {"cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(), "places": atoms.positions.tolist()}
    return told | {"velocities": velocities.tolist(), "spring": SPRING, "timestep": 1.0}


def opened(arguments: argparse.Namespace, threads: int) -> dict[str, Side]:
    """Every side, with its potential loaded."""
    log, sides = arguments.output / "log.txt", {}
    for name, options in PROGRAMS.items():
        side = sides[name] = Side(Path(sys.executable), "eqff_worker.py", threads, log)
        side.ask("load", path=arguments.potential, options={"accelerate": "ready", **options})
    if arguments.sevenn_python is not None and not arguments.scaling:
        side = sides["sevenn"] = Side(arguments.sevenn_python, "sevenn_worker.py", threads, log)
        side.ask("load", name=arguments.sevenn_model, modality=arguments.modality)
    return sides


def agree(sides: dict[str, Side], told: dict[str, Any]) -> dict[str, float]:
    """Largest differences from the last side: energy in meV/atom, forces in meV/Å."""
    found = {name: side.ask("evaluate", frames=[told["positions"]], **told) for name, side in sides.items()}
    *others, last = found
    worst = {"energy_meV_atom": 0.0, "forces_meV_A": 0.0}
    for name in others:
        energy = found[name]["energies"][0] - found[last]["energies"][0]
        forces = np.array(found[name]["forces"]) - np.array(found[last]["forces"])
        worst["energy_meV_atom"] = max(worst["energy_meV_atom"], 1e3 * abs(energy) / len(told["numbers"]))
        worst["forces_meV_A"] = max(worst["forces_meV_A"], 1e3 * float(np.abs(forces).max()))
    return worst


def timed(sides: dict[str, Side], told: dict[str, Any], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Wall ms of a step of every side, one value for each round."""
    n_steps = {}
    for name, side in sides.items():
        side.ask("start", **told)
        first = side.ask("step", n_steps=2)["wall_ms"][-1]
        n_steps[name] = min(max(round(1e3 * seconds / first), 1), LONGEST)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(statistics.median(side.ask("step", n_steps=n_steps[name])["wall_ms"]))
    return found


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential", help="name or file; compiled first, if it is not yet")
parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
parser.add_argument("--sevenn-python", type=Path, help="Python of an environment with sevenn")
parser.add_argument("--sevenn-model", default="7net-0")
parser.add_argument("--modality", default="")
parser.add_argument("--threads", type=int, nargs="+", default=[1])
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=2.0, help="of every side in a round, about")
parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
parser.add_argument("--scaling", action="store_true")
arguments = parser.parse_args()
arguments.output.mkdir(parents=True, exist_ok=True)
for exact in (True, False):
    eqff.compile(arguments.potential, exact=exact)
programs = {
    name: eqff.load(arguments.potential, accelerate="ready", **options).program for name, options in PROGRAMS.items()
}
print("\n".join(f"{name}: {program}" for name, program in programs.items()))
rows: list[dict[str, Any]] = []
for threads in arguments.threads:
    for system, make in (SCALING if arguments.scaling else {name: SYSTEMS[name] for name in arguments.systems}).items():
        atoms = make()
        sides, told = opened(arguments, threads), request(atoms)
        row: dict[str, Any] = {"system": system, "atoms": len(atoms), "threads": threads, "load": os.getloadavg()[0]}
        row["differences"] = agree(sides, told)
        times = timed(sides, told, arguments.rounds, arguments.seconds)
        row["ms"] = times
        for side in sides.values():
            side.close()
        rows.append(row)
        shown = "  ".join(f"{name} {statistics.median(values):.1f} ms" for name, values in times.items())
        if "sevenn" in times:
            for name in PROGRAMS:
                ratios = [slow / fast for slow, fast in zip(times["sevenn"], times[name], strict=True)]
                row[f"sevenn / {name}"] = statistics.median(ratios)
                shown += f"  {name} x{row[f'sevenn / {name}']:.1f}"
        else:
            per_atom = {name: 1e3 * statistics.median(values) / len(atoms) for name, values in times.items()}
            shown += "  " + ", ".join(f"{name} {value:.0f} µs/atom" for name, value in per_atom.items())
        print(f"{system}, {len(atoms)} atoms, {threads} threads: {shown}", flush=True)
        (arguments.output / "results.json").write_text(
            json.dumps({"programs": programs, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )
