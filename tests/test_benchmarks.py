"""Benchmarks start and their structures are what they say; timings are nobody's test."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("program", "radial"),
    [
        ("TorchScript", "exact"),
        ("compiled for AVX2, exact radial functions", "exact"),  # asked for splines, as a family without them
        ("compiled for AVX2, radial splines of 256 knots", "splines"),
    ],
)
def test_drift_is_of_the_program_that_ran(monkeypatch: pytest.MonkeyPatch, program: str, radial: str) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import nve_drift

    found = SimpleNamespace(drift=0.0, drift_resolution=0.0, fluctuation=0.0, mean_temperature=300.0)
    monkeypatch.setattr(nve_drift.torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(nve_drift.eqff, "EqffCalculator", lambda *a, **k: SimpleNamespace(program=program))
    monkeypatch.setattr(nve_drift, "run_md", lambda *a: found)
    monkeypatch.setattr(nve_drift, "read", lambda path: None)
    assert nve_drift.measure("x", "float64", 0.5, "splines", True, 0.001, "x.xyz")["radial"] == radial


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


def test_training_time_shows_every_shipped_potential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import training_time

    monkeypatch.setattr(sys, "argv", ["training_time.py", "-o", str(tmp_path)])
    training_time.main()
    lines = (tmp_path / "training_time.md").read_text(encoding="utf-8").splitlines()[2:]
    shipped = sorted(path.parent.name for path in (ROOT / "potentials").glob("*/*.eqff.pt"))
    assert [line.split("|")[1].strip() for line in lines] == shipped
    assert (tmp_path / "training_time.png").stat().st_size > 10_000
