"""The families side by side: potentials of the same split, on the same test frames, on the same cores.

python examples/benchmarks/families.py TEST_DATA --energy-unit kcal/mol
    [--potentials ethanol-nequip ethanol-escn ...] [--compiled] [--steps 400] [--picoseconds 5] [-o table.md]

Prints a markdown table.  Without --potentials, every shipped potential of ethanol takes part.  An MD step is energy and
forces of moved atoms as ASE's integrator asks for them; the potentials take turns, so a busy machine is unfair to none.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from nve_drift import measure

import eqff
from eqff.artifact import default_structure, inspect
from eqff.artifact.lookup import available
from eqff.compiler import compile_potential
from eqff.data.reading.read import read_frames
from eqff.tasks.evaluate import evaluate

ROUNDS = 8
TIMESTEP = 0.5  # fs


def dynamics(name: str, structure: Atoms, compiled: bool) -> VelocityVerlet:
    """An NVE run at 300 K that has made its first steps."""
    atoms = structure.copy()
    atoms.calc = eqff.EqffCalculator(name, accelerate="ready" if compiled else "off")
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    run = VelocityVerlet(atoms, TIMESTEP * units.fs)
    run.run(20)
    return run


def milliseconds_per_step(runs: dict[str, VelocityVerlet], steps: int) -> dict[str, float]:
    """Median over rounds of CPU time; in every round each run makes a block of steps."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    block = max(1, steps // ROUNDS)
    for _ in range(ROUNDS):
        for name, run in runs.items():
            before = time.process_time()
            run.run(block)
            found[name].append(1000.0 * (time.process_time() - before) / block)
    return {name: statistics.median(times) for name, times in found.items()}


def row(name: str, header: dict[str, Any], frames: list[Any], step: float, nve: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    errors = evaluate(eqff.load(name), frames).metrics
    return {
        "potential": name,
        "family": header["family"],
        "parameters": header["n_parameters"],
        "forces_mae_meV_A": errors["forces_mae_meV_A"],
        "energy_mae_meV": errors["energy_mae_meV"],
        "ms_per_step": step,
        "drift_meV_per_atom_per_ps": nve["drift_meV_per_atom_per_ps"],
        "drift_resolution_meV_per_atom_per_ps": nve["drift_resolution_meV_per_atom_per_ps"],
        "fluctuation_meV_per_atom": nve["fluctuation_meV_per_atom"],
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, best forces first."""
    lines = [
        "| potential | family | parameters | force MAE (meV/Å) | energy MAE (meV) | ms per MD step "
        "| NVE drift (meV/atom/ps) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted(rows, key=lambda each: each["forces_mae_meV_A"]):
        drift, resolution = one["drift_meV_per_atom_per_ps"], one["drift_resolution_meV_per_atom_per_ps"]
        lines.append(
            f"| {one['potential']} | {one['family']} | {one['parameters']:,} | {one['forces_mae_meV_A']:.2f} "
            f"| {one['energy_mae_meV']:.2f} | {one['ms_per_step']:.2f} | {drift:+.1e} ± {resolution:.0e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled frames that no potential was trained on")
    parser.add_argument("--potentials", nargs="+", default=[n for n in available() if n.startswith("ethanol-")])
    parser.add_argument("--energy-unit")
    parser.add_argument("--n-frames", type=int, default=0, help="of the data, from its start; 0 is all")
    parser.add_argument("--structure", help="where dynamics start; default: what the first potential brings along")
    parser.add_argument("--compiled", action="store_true", help="time and run compiled programs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--picoseconds", type=float, default=5.0)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    names = arguments.potentials
    headers = {name: inspect(name) for name in names}
    splits = {name: (headers[name].get("training_data") or {}).get("split_sha256") for name in names}
    frames = list(read_frames(arguments.data, energy_unit=arguments.energy_unit))
    frames = frames[: arguments.n_frames or len(frames)]
    start = arguments.structure or str(default_structure(names[0]))
    torch.set_num_threads(1)
    for name in names if arguments.compiled else []:
        print(f"compiling {name}", flush=True)
        compile_potential(name)
    runs = {name: dynamics(name, read(start), arguments.compiled) for name in names}
    steps = milliseconds_per_step(runs, arguments.steps)
    rows = []
    for name in names:
        dtype, radial = headers[name]["dtype"], "splines" if arguments.compiled else "exact"
        nve = measure(name, dtype, TIMESTEP, radial, arguments.compiled, arguments.picoseconds, start)
        rows.append(row(name, headers[name], frames, steps[name], nve))
    text = [
        markdown(rows),
        "",
        f"{len(frames)} frames of {Path(arguments.data).name}; one thread, CPU time, {TIMESTEP} fs, "
        f"{'compiled' if arguments.compiled else 'TorchScript'}; drift over {arguments.picoseconds:g} ps; "
        f"torch {torch.__version__}, {platform.machine()}",
        "Trained on the same split." if len(set(splits.values())) == 1 else f"NOT trained on the same split: {splits}",
    ]
    print("\n".join(text))
    if arguments.output:
        arguments.output.write_text("\n".join(text) + "\n", encoding="utf-8")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
