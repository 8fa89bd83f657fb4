import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from eqff.data.reading.read import read_frames
from eqff.data.reading.write import write_frames
from eqff.data.store.store import Store
from eqff.engines.ase.calculators import Maker, calculator_maker
from eqff.errors import ConfigError, RunError
from eqff.tasks.sample import SampleConfig, run_sample

COPPER = bulk("Cu", cubic=True)
SHORT = {"temperature": 400.0, "interval": 5, "equilibration": 10, "n_frames": 4, "n_seeds": 2}


class KilledError(Exception):
    """A kill, as far as files are concerned."""


def test_labels_are_the_calculators(tmp_path):
    report = run_sample(
        SampleConfig(output=tmp_path / "a.h5", volume=0.1, strain=0.05, **SHORT), COPPER, calculator_maker("emt")
    )
    frames = read_frames(report.output)
    assert len(frames) == 8
    assert 0 < report.n_strained < 8
    for frame in frames:
        atoms = Atoms(
            numbers=frame.atomic_numbers, positions=frame.positions, cell=frame.cell, pbc=True, calculator=EMT()
        )
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=1e-12)
        assert frame.stress == pytest.approx(atoms.get_stress(), abs=1e-12)
        volume = abs(np.linalg.det(frame.cell)) / COPPER.get_volume()
        assert (volume == pytest.approx(1.0, abs=1e-12)) != bool(frame.info.get("strained"))
        assert 0.9 < volume < 1.1
    with Store(report.output) as store:
        assert store.provenance["level_of_theory"].startswith("EMT")
        assert "400 K" in store.provenance["dynamics"]


def test_a_stopped_run_continues_to_the_same_frames(tmp_path, monkeypatch):
    monkeypatch.setattr("eqff.tasks.sample.BLOCK", 5)  # steps
    maker = calculator_maker("emt")
    run_sample(SampleConfig(output=tmp_path / "whole.h5", strain=0.05, **SHORT), COPPER, maker)

    def kill(done, total):
        raise KilledError

    config = {"output": tmp_path / "stopped.h5", "strain": 0.05, **SHORT}
    for _ in range(12):  # a kill after every block
        with pytest.raises(KilledError):
            run_sample(SampleConfig(resume=True, **config), COPPER, maker, kill)
    report = run_sample(SampleConfig(resume=True, **config), COPPER, maker)
    assert report.resumed_at == 8
    whole, stopped = (Store(tmp_path / name) for name in ("whole.h5", "stopped.h5"))
    with whole, stopped:
        assert whole.digest == stopped.digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stopped.h5", "whole.h5"]


CHILD = """
import os, signal, sys
from pathlib import Path
from ase.build import bulk
from ase.calculators.emt import EMT
from eqff.engines.ase.calculators import Maker
from eqff.tasks import sample

output, n_safe, settings = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
partial = output.with_name(f"{output.name}.partial")


class Deadly(EMT):
    def calculate(self, *arguments, **options):
        if partial.read_text().count("\\n") == n_safe:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **options)


sample.BLOCK = 10  # steps: two frames
sample.run_sample(sample.SampleConfig(output=output, **settings), bulk("Cu", cubic=True), Maker("emt", "none", Deadly))
"""


@pytest.mark.parametrize("n_safe", [2, 6])  # in the first and in the second trajectory
def test_sigkill_costs_the_last_block_only(n_safe, tmp_path, monkeypatch):
    """The process dies at its first evaluation after n_safe frames are in the partial file."""
    output = tmp_path / "killed.h5"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", CHILD, str(output), str(n_safe), repr(SHORT)]
    assert subprocess.run(arguments, env=environment, check=False).returncode == -signal.SIGKILL
    assert not output.exists()
    monkeypatch.setattr("eqff.tasks.sample.BLOCK", 10)
    maker = Maker("emt", "none", EMT)
    assert run_sample(SampleConfig(output=output, resume=True, **SHORT), COPPER, maker).resumed_at == n_safe
    run_sample(SampleConfig(output=tmp_path / "whole.h5", **SHORT), COPPER, maker)
    with Store(tmp_path / "whole.h5") as whole, Store(output) as killed:
        assert whole.digest == killed.digest


def test_a_kill_after_the_output_appeared_is_finished_by_resume(tmp_path, monkeypatch):
    config = {"output": tmp_path / "a.extxyz", **SHORT}
    maker = calculator_maker("emt")

    def write_and_die(*arguments, **options):
        write_frames(*arguments, **options)
        raise KilledError

    monkeypatch.setattr("eqff.tasks.sample.write_frames", write_and_die)
    with pytest.raises(KilledError):
        run_sample(SampleConfig(**config), COPPER, maker)
    monkeypatch.undo()
    report = run_sample(SampleConfig(resume=True, **config), COPPER, maker)
    assert report.resumed_at == report.n_frames == len(read_frames(tmp_path / "a.extxyz")) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.extxyz", "a.extxyz.json"]
    with pytest.raises(ConfigError, match="EQ1958"):
        run_sample(SampleConfig(resume=True, **config), COPPER, maker)


def test_another_run_is_not_continued(tmp_path):
    config = {"output": tmp_path / "a.h5", **SHORT}

    def kill(done, total):
        raise KilledError

    with pytest.raises(KilledError):
        run_sample(SampleConfig(**config), COPPER, calculator_maker("emt"), kill)
    with pytest.raises(ConfigError, match=r"EQ1222.*--resume"):
        run_sample(SampleConfig(**config), COPPER, calculator_maker("emt"))
    with pytest.raises(ConfigError, match=r"EQ1223.*temperature"):
        run_sample(SampleConfig(resume=True, **{**config, "temperature": 500.0}), COPPER, calculator_maker("emt"))


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "a.h5").write_text("mine")
    with pytest.raises(ConfigError, match="EQ1221"):
        run_sample(SampleConfig(output=tmp_path / "a.h5", **SHORT), COPPER, calculator_maker("emt"))
    assert (tmp_path / "a.h5").read_text() == "mine"


def test_the_thermostat_reaches_its_temperature(tmp_path):
    """3 n_atoms degrees of freedom, as Langevin dynamics moves the whole, too: standard error 6 %."""
    config = SampleConfig(
        output=tmp_path / "a.h5", temperature=600.0, timestep=2.0, thermostat_time=20.0, interval=20, equilibration=100,
        n_frames=25, n_seeds=1,
    )  # fmt: skip
    assert run_sample(config, COPPER, calculator_maker("emt")).mean_temperature == pytest.approx(600.0, rel=0.2)


def test_seeds_and_molecules(tmp_path):
    molecule = Atoms("CO", positions=[[5.0, 5.0, 5.0], [5.0, 5.0, 6.2]])
    report = run_sample(SampleConfig(output=tmp_path / "a.extxyz", **SHORT), molecule, calculator_maker("emt"))
    frames = read_frames(report.output)
    assert [int(f.info["seed"]) for f in frames] == [0] * 4 + [1] * 4
    assert not np.allclose(frames[0].positions, frames[4].positions, atol=1e-3)
    for frame in frames:
        assert frame.stress is None
        masses = molecule.get_masses()
        assert masses @ frame.positions == pytest.approx(np.zeros(3), abs=1e-5)
    beside = json.loads((tmp_path / "a.extxyz.json").read_text(encoding="utf-8"))
    assert beside["structure"] == "CO"


class Exploding(EMT):
    """Forces that only grow."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results["forces"] = 1e4 * np.ones_like(self.results["forces"])


def test_a_runaway_is_stopped(tmp_path):
    maker = Maker("exploding", "none", Exploding)
    with pytest.raises(RunError, match=r"EQ5922.*seed 0, step \d+"):
        run_sample(SampleConfig(output=tmp_path / "a.h5", **SHORT), COPPER, maker)


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("EQ1956", {"output": "a.npz"}),
        ("EQ1938", {"temperature": 0.0}),
        ("EQ1939", {"interval": 0}),
        ("EQ1939", {"n_frames": 0}),
        ("EQ1940", {"volume": 0.9}),
        ("EQ1938", {"timestep": float("nan")}),
    ],
)
def test_options_are_checked(id, options):
    with pytest.raises(ConfigError, match=id):
        SampleConfig(**{"output": "a.h5", **options})


def test_a_molecule_cannot_be_strained(tmp_path):
    with pytest.raises(ConfigError, match="EQ1957"):
        run_sample(
            SampleConfig(output=tmp_path / "a.h5", strain=0.1),
            Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]),
            calculator_maker("emt"),
        )


def test_temperature_is_that_of_all_atoms():
    from eqff.tasks.sample import _temperature

    atoms = COPPER.copy()
    atoms.set_momenta(np.full((4, 3), np.sqrt(units.kB * 300.0 * 63.546)))
    assert _temperature(atoms) == pytest.approx(300.0, rel=1e-3)
