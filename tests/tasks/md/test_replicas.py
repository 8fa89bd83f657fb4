"""Replicas differ by their seed alone, whoever runs them."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from eqff.errors import ConfigError, RunError
from eqff.tasks.md import Limits, MDConfig, run_md, run_replicas
from eqff.tasks.md.replicas import replica_configs

OPTIONS = {"ensemble": "nvt", "steps": 6, "timestep": 4.0, "interval": 2, "seed": 5}


@pytest.fixture
def copper():
    return bulk("Cu", cubic=True)


def test_seeds_and_names_are_counted(tmp_path):
    config = MDConfig(trajectory=tmp_path / "run.traj", seed=5)
    assert replica_configs(config, 1) == [config]
    names = [(one.seed, one.trajectory.name, one.log.name) for one in replica_configs(config, 3)]
    assert names == [(5, "run_0.traj", "run_0.csv"), (6, "run_1.traj", "run_1.csv"), (7, "run_2.traj", "run_2.csv")]
    assert replica_configs(config, 11)[3].trajectory.name == "run_03.traj"
    with pytest.raises(ConfigError, match="EQ1266"):
        replica_configs(config, 0)
    with pytest.raises(ConfigError, match="EQ1267"):
        run_replicas(config, bulk("Cu"), EMT(), 2, processes=0)


def test_each_replica_is_the_run_with_its_seed(tmp_path, copper):
    seen = []
    config = MDConfig(trajectory=tmp_path / "run.xyz", **OPTIONS)
    reports = run_replicas(config, copper, EMT(), 2, progress=lambda index, sample: seen.append((index, sample.step)))
    assert seen == [(index, step) for index in (0, 1) for step in range(7)]
    alone = run_md(MDConfig(trajectory=tmp_path / "alone.xyz", **OPTIONS | {"seed": 6}), copper, EMT())
    assert reports[1].trajectory.read_text() == alone.trajectory.read_text()
    assert reports[0].trajectory.read_text() != alone.trajectory.read_text()


def test_processes_give_the_same_files(tmp_path, copper):
    config = MDConfig(trajectory=tmp_path / "run.xyz", **OPTIONS)
    run_replicas(config, copper, EMT(), 2)
    together = MDConfig(trajectory=tmp_path / "both.xyz", **OPTIONS)
    reports = run_replicas(together, copper, EMT(), 2, processes=2)
    for index in (0, 1):
        assert reports[index].trajectory == tmp_path / f"both_{index}.xyz"
        assert (tmp_path / f"both_{index}.xyz").read_bytes() == (tmp_path / f"run_{index}.xyz").read_bytes()


def test_a_replica_that_is_stopped_does_not_stop_the_others(tmp_path, copper):
    config = MDConfig(trajectory=tmp_path / "run.xyz", **OPTIONS)
    (tmp_path / "run_0.xyz").write_text("precious")
    with pytest.raises(RunError, match=r"EQ5115: 1 of 2 replicas failed: replica 0 \(seed 5\): ConfigError EQ1204"):
        run_replicas(config, copper, EMT(), 2)
    assert (tmp_path / "run_0.xyz").read_text() == "precious"
    assert (tmp_path / "run_1.csv").read_text().count("\n") == 8
    with pytest.raises(RunError, match=r"EQ5110: step 0"):  # a single run keeps its own error
        run_replicas(MDConfig(trajectory=tmp_path / "a.xyz", guard=Limits(min_distance=3.0)), copper, EMT(), 1)


def test_replicas_are_continued_and_those_missing_begin(tmp_path, copper):
    config = MDConfig(trajectory=tmp_path / "run.xyz", **OPTIONS)
    run_replicas(config, copper, EMT(), 2)
    before = (tmp_path / "run_1.xyz").read_bytes()
    for path in tmp_path.glob("run_1.*"):
        path.unlink()
    reports = run_replicas(MDConfig(trajectory=tmp_path / "run.xyz", resume=True, **OPTIONS), copper, EMT(), 2)
    assert [report.resumed_at for report in reports] == [6, None]
    assert (tmp_path / "run_1.xyz").read_bytes() == before
    assert np.isfinite(reports[0].samples["total"]).all()
