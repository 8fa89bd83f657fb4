"""Does constant-energy dynamics conserve energy, and does the fluctuation fall as the square of the time step?

python examples/benchmarks/nve_drift.py ethanol-nequip [--picoseconds 20] [--processes 2] [--compiled] [--json nve.json]

With --compiled, compiled programs run (several times faster), and radial splines beside exact radial functions, where
the family has them.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from ase.io import read

import eqff
from eqff.artifact import default_structure
from eqff.compiler import compile_potential
from eqff.tasks.md import MDConfig, run_md

# weights, time step in fs, radial functions
EXACT = (("float64", 0.25, "exact"), ("float64", 0.5, "exact"), ("float32", 0.5, "exact"))
COMPILED = (*EXACT[:2], ("float64", 0.5, "splines"), ("float32", 0.5, "splines"))


def measure(
    potential: str, dtype: str, timestep: float, radial: str, compiled: bool, picoseconds: float, structure: str
) -> dict:
    """Drift and fluctuation of one run from the relaxed structure, 300 K at the start."""
    torch.set_num_threads(1)
    steps = round(1000 * picoseconds / timestep)
    with tempfile.TemporaryDirectory() as folder:
        config = MDConfig(timestep=timestep, steps=steps, interval=steps, trajectory=Path(folder) / "nve.extxyz")
        program: dict[str, Any] = {"accelerate": "ready" if compiled else "off", "exact": radial == "exact"}
        calculator = eqff.EqffCalculator(potential, dtype=dtype, **program)
        report = run_md(config, read(structure), calculator)
    return {
        "dtype": dtype,
        "radial": "splines" if "splines" in calculator.program else "exact",  # not every family has splines
        "program": calculator.program,
        "timestep_fs": timestep,
        "picoseconds": picoseconds,
        "drift_meV_per_atom_per_ps": report.drift,
        "drift_resolution_meV_per_atom_per_ps": report.drift_resolution,
        "fluctuation_meV_per_atom": report.fluctuation,
        "mean_temperature_K": report.mean_temperature,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--structure")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    structure = arguments.structure or str(default_structure(arguments.potential))
    print(f"NVE, 300 K at the start, {arguments.picoseconds} ps")
    print("dtype    radial   dt/fs   drift meV/atom/ps           fluctuation meV/atom RMS")
    cases = COMPILED if arguments.compiled else EXACT
    if arguments.compiled:
        for dtype, radial in sorted({(dtype, radial) for dtype, _, radial in cases}):
            compile_potential(arguments.potential, dtype, exact=radial == "exact")
    with ProcessPoolExecutor(arguments.processes) as pool:
        options = (arguments.compiled, arguments.picoseconds, structure)
        jobs = [pool.submit(measure, arguments.potential, *case, *options) for case in cases]
        rows = [job.result() for job in jobs]
    for row in rows:
        drift, resolution = row["drift_meV_per_atom_per_ps"], row["drift_resolution_meV_per_atom_per_ps"]
        size = f"{drift:+.5f} ± {resolution:.5f}"
        fluctuation = row["fluctuation_meV_per_atom"]
        print(f"{row['dtype']}  {row['radial']:7s}  {row['timestep_fs']:5.2f}   {size:25s}   {fluctuation:.5f}")
    ratio = rows[1]["fluctuation_meV_per_atom"] / rows[0]["fluctuation_meV_per_atom"]
    print(f"fluctuation ratio for half the time step: {ratio:.2f} (4 for a second-order integrator, smooth surface)")
    if arguments.json:
        record = {"nve": rows, "fluctuation_ratio": ratio}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
