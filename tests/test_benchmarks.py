"""Benchmarks start and their structures are what they say; timings are nobody's test."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "benchmarks"


START_ALL = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, path
"""


def test_benchmarks_start() -> None:
    scripts = sorted(str(path) for path in FOLDER.glob("bench_*.py"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(FOLDER)])}
    command = [sys.executable, "-W", "ignore", "-c", START_ALL, *scripts]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("--output") >= len(scripts) >= 3


def test_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import structures

    assert structures.aspirin().get_chemical_formula() == "C9H8O4"
    for name, n_atoms in {"ethanol": 9, "64 H2O": 192, "216 Si": 216}.items():
        atoms = structures.SYSTEMS[name]()
        assert len(atoms) == n_atoms
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(n_atoms, 1)]
        assert distances.min() > 0.9


def test_thermal_amplitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import structures
    from ase import units

    atoms = structures.water(6)
    positions, velocities = structures.thermal(atoms, temperature=300.0, spring=5.0)
    spring_energy = 2.5 * ((positions - atoms.positions) ** 2).mean()
    kinetic_energy = 0.5 * (atoms.get_masses()[:, None] * velocities**2).mean()
    half = 0.5 * units.kB * 300.0  # equipartition
    assert spring_energy == pytest.approx(half, rel=0.06)
    assert kinetic_energy == pytest.approx(half, rel=0.06)
