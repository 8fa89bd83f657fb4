"""Errors of a potential on labelled frames: mean absolute errors as the (r)MD17 papers report them.

python examples/benchmarks/accuracy.py POTENTIAL DATA [--energy-unit kcal/mol] [--json metrics.json]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import eqff
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.elements import species_index
from eqff.graph import batch_structures
from eqff.neighbors import build_structure

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential")
parser.add_argument("data")
parser.add_argument("--energy-unit")
parser.add_argument("--dtype", default="auto")
parser.add_argument("--json", type=Path)
arguments = parser.parse_args()

potential = eqff.load(arguments.potential, dtype=arguments.dtype)
source = Source(arguments.data, ReadOptions(energy_unit=arguments.energy_unit))
energy_errors, force_errors = [], []
for start in range(0, len(source.frames), 50):
    frames = source.frames[start : start + 50]
    structures = [
        build_structure(f.positions, species_index(f.atomic_numbers, potential.species), f.cell, f.pbc, potential.r_max)
        for f in frames
    ]
    found = potential(batch_structures(structures))
    energy_errors += (found.energy - torch.tensor([f.energy for f in frames], dtype=torch.float64)).tolist()
    force_errors.append((found.forces.numpy() - np.concatenate([f.forces for f in frames])).ravel())
energy, forces = 1000 * np.array(energy_errors), 1000 * np.concatenate(force_errors)
metrics = {
    "data": source.path.name,
    "data_sha256": source.sha256,
    "n_frames": len(source.frames),
    "forces_mae_meV_A": float(abs(forces).mean()),
    "forces_rmse_meV_A": float(np.sqrt((forces**2).mean())),
    "forces_max_meV_A": float(abs(forces).max()),
    "energy_mae_meV": float(abs(energy).mean()),
    "energy_rmse_meV": float(np.sqrt((energy**2).mean())),
    "energy_max_meV": float(abs(energy).max()),
}
for name, value in metrics.items():
    print(f"{name:20s} {value if isinstance(value, str) else format(value, '.4g')}")
if arguments.json:
    arguments.json.write_text(json.dumps({"test": metrics}, indent=2) + "\n", encoding="utf-8")
