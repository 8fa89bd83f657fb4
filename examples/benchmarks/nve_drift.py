"""Does constant-energy dynamics conserve energy, and does the fluctuation fall as the square of the time step?

python examples/benchmarks/nve_drift.py ethanol-nequip [--picoseconds 20] [--json nve.json]
"""

import argparse
import json
import tempfile
from pathlib import Path

from ase.io import read

import eqff
from eqff.artifact import default_structure
from eqff.tasks.md import MDConfig, run_md

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("--picoseconds", type=float, default=20.0)
parser.add_argument("--structure", type=Path)
parser.add_argument("--json", type=Path)
arguments = parser.parse_args()

rows = []
print(f"NVE, 300 K at the start, {arguments.picoseconds} ps")
print("dtype    dt/fs  drift meV/atom/ps  fluctuation meV/atom RMS")
for dtype, timestep in (("float64", 0.5), ("float64", 0.25), ("float32", 0.5)):
    atoms = read(arguments.structure or default_structure(arguments.potential))
    steps = round(1000 * arguments.picoseconds / timestep)
    with tempfile.TemporaryDirectory() as folder:
        config = MDConfig(timestep=timestep, steps=steps, interval=steps, trajectory=Path(folder) / "nve.extxyz")
        report = run_md(config, atoms, eqff.EqffCalculator(arguments.potential, dtype=dtype))
    row = {
        "dtype": dtype,
        "timestep_fs": timestep,
        "drift_meV_per_atom_per_ps": report.drift,
        "fluctuation_meV_per_atom": report.fluctuation,
    }
    rows.append(row)
    print(f"{dtype}  {timestep:5.2f}  {report.drift:+17.5f}  {report.fluctuation:10.5f}", flush=True)
ratio = rows[0]["fluctuation_meV_per_atom"] / rows[1]["fluctuation_meV_per_atom"]
print(f"fluctuation ratio for half the time step: {ratio:.2f} (4 for a second-order integrator on a smooth surface)")
if arguments.json:
    arguments.json.write_text(json.dumps({"nve": rows, "fluctuation_ratio": ratio}, indent=2) + "\n", encoding="utf-8")
