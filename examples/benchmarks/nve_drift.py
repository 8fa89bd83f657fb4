"""Does constant-energy dynamics conserve energy, and does the fluctuation fall as the square of the time step?

python examples/benchmarks/nve_drift.py ethanol-nequip [--picoseconds 20] [--processes 2] [--json nve.json]
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from ase.io import read

import eqff
from eqff.artifact import default_structure
from eqff.tasks.md import MDConfig, run_md

CASES = (("float64", 0.25), ("float64", 0.5), ("float32", 0.5))


def measure(potential: str, dtype: str, timestep: float, picoseconds: float, structure: str) -> dict:
    """Drift and fluctuation of one run from the relaxed structure, 300 K at the start."""
    torch.set_num_threads(1)
    steps = round(1000 * picoseconds / timestep)
    with tempfile.TemporaryDirectory() as folder:
        config = MDConfig(timestep=timestep, steps=steps, interval=steps, trajectory=Path(folder) / "nve.extxyz")
        report = run_md(config, read(structure), eqff.EqffCalculator(potential, dtype=dtype))
    return {
        "dtype": dtype,
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
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    structure = arguments.structure or str(default_structure(arguments.potential))
    print(f"NVE, 300 K at the start, {arguments.picoseconds} ps")
    print("dtype    dt/fs   drift meV/atom/ps           fluctuation meV/atom RMS")
    with ProcessPoolExecutor(arguments.processes) as pool:
        jobs = [pool.submit(measure, arguments.potential, *case, arguments.picoseconds, structure) for case in CASES]
        rows = [job.result() for job in jobs]
    for row in rows:
        drift, resolution = row["drift_meV_per_atom_per_ps"], row["drift_resolution_meV_per_atom_per_ps"]
        size = f"{drift:+.5f} ± {resolution:.5f}"
        print(f"{row['dtype']}  {row['timestep_fs']:5.2f}   {size:25s}   {row['fluctuation_meV_per_atom']:.5f}")
    ratio = rows[1]["fluctuation_meV_per_atom"] / rows[0]["fluctuation_meV_per_atom"]
    print(f"fluctuation ratio for half the time step: {ratio:.2f} (4 for a second-order integrator, smooth surface)")
    if arguments.json:
        record = {"nve": rows, "fluctuation_ratio": ratio}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
