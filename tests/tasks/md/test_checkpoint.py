"""Exact restart: a run in two parts equals a run in one, bit for bit, whatever ended the first part."""

import os
import signal
import warnings

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators import emt
from ase.calculators.calculator import all_changes
from ase.constraints import FixAtoms
from ase.io import Trajectory

from eqff.artifact.potential import Potential
from eqff.data.h5md import read_h5md
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, RunError
from eqff.models import nequip
from eqff.potential import GradientEvaluator
from eqff.tasks.md import Limits, MDConfig, run_md
from eqff.tasks.md.integrators import CONSERVED

KINDS = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "npt": {"ensemble": "npt", "pressure_gpa": 2.0, "barostat_time": 200.0},
}
STEPS, STOP, EVERY = 23, 13, 5


class EMT(emt.EMT):
    """Without the neighbour list that ASE's keeps between calls: its order of sums remembers where it was made."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, all_changes)


class StopError(Exception):
    """What ends the first part of a run."""


@pytest.fixture
def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=2)
    return atoms


def config(path, **options):
    options = {"timestep": 3.0, "steps": STEPS, "interval": 4, "checkpoint_interval": EVERY, **options}
    return MDConfig(trajectory=path, temperature=600.0, seed=7, **options)


def in_one_part(path, atoms, **options):
    path.parent.mkdir()
    return run_md(config(path, **options), atoms, EMT())


def in_two_parts(path, atoms, end, **options):
    """Ended by `end` after step 13, continued from the checkpoint of step 10."""
    path.parent.mkdir()

    def stop(sample):
        if sample.step == STOP:
            end()

    with pytest.raises(StopError):
        run_md(config(path, **options), atoms, EMT(), stop)
    return run_md(config(path, resume=True, **options), atoms, EMT())


def interrupted():
    raise StopError


def arrays(path):
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name != "plain"}


def assert_same_run(first, second):
    """Files and figures, bit for bit."""
    assert first.log.read_bytes() == second.log.read_bytes()
    one, other = arrays(first.checkpoint), arrays(second.checkpoint)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert first.samples.tobytes() == second.samples.tobytes()
    assert (first.drift, first.max_force, first.fluctuation) == (second.drift, second.max_force, second.fluctuation)
    for name, curve in first.pair_distances.curves.items():
        np.testing.assert_array_equal(curve, second.pair_distances.curves[name])


def content(path):
    """All numbers of a trajectory."""
    if path.suffix == ".h5":
        return [np.concatenate([np.ravel(value) for value in frame]) for frame in read_h5md(path)]
    with Trajectory(path) as frames:
        return [
            np.concatenate([f.positions.ravel(), f.get_momenta().ravel(), f.cell.array.ravel(), f.get_forces().ravel()])
            for f in frames
        ]


@pytest.mark.parametrize("kind", CONSERVED)
def test_a_continued_run_equals_an_uninterrupted_one(tmp_path, copper, kind):
    first = in_one_part(tmp_path / "a" / "run.extxyz", copper, **KINDS[kind])
    second = in_two_parts(tmp_path / "b" / "run.extxyz", copper, interrupted, **KINDS[kind])
    assert second.resumed_at == 10
    assert first.resumed_at is None
    assert first.trajectory.read_bytes() == second.trajectory.read_bytes()
    assert_same_run(first, second)


@pytest.mark.parametrize("suffix", [".traj", ".h5"])
def test_so_do_binary_trajectories(tmp_path, copper, suffix):
    first = in_one_part(tmp_path / "a" / f"run{suffix}", copper)
    second = in_two_parts(tmp_path / "b" / f"run{suffix}", copper, interrupted)
    one, other = content(first.trajectory), content(second.trajectory)
    assert len(one) == 7  # steps 0, 4, 8, ..., 20 and the last
    np.testing.assert_array_equal(one, other)
    assert_same_run(first, second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".h5"])
def test_a_killed_run_is_continued_exactly(tmp_path, copper, suffix):
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    first = in_one_part(tmp_path / "a" / f"run{suffix}", copper, **KINDS["langevin"])
    path = tmp_path / "b" / f"run{suffix}"
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forking with threads; this child touches none
        child = os.fork()
    if child == 0:
        run_md(
            config(path, **KINDS["langevin"]), copper, EMT(), lambda sample: killed() if sample.step == STOP else None
        )
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    if suffix == ".h5":
        assert [frame.step for frame in read_h5md(path)][:3] == [0, 4, 8]  # readable as it was left
    second = run_md(config(path, resume=True, **KINDS["langevin"]), copper, EMT())
    assert second.resumed_at == 10
    if suffix == ".extxyz":
        assert first.trajectory.read_bytes() == second.trajectory.read_bytes()
    else:
        np.testing.assert_array_equal(content(first.trajectory), content(second.trajectory))
    assert_same_run(first, second)


def test_neighbour_lists_leave_no_trace_in_a_continued_run(tmp_path):
    """The continued run searches neighbours at other moments than the uninterrupted one, and from other places."""
    settings = nequip.Config(species=("Cu",), r_max=3.5, l_max=1, n_layers=1, n_channels=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nequip.Model(settings)
    potential = Potential(
        evaluator=GradientEvaluator(model),
        module=model,
        species=("Cu",),
        r_max=3.5,
        n_hops=1,
        dtype=torch.float32,
        device=torch.device("cpu"),
        header={},
    )
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    searches = []

    def stop(sample):
        if sample.step == 47:
            raise StopError

    def run(name, progress=None, **options):
        calculator = EqffCalculator(potential, skin=0.3)
        options = {"temperature": 1500.0, "timestep": 5.0, "steps": 80, "checkpoint_interval": 10, **options}
        try:
            run_md(
                MDConfig(trajectory=tmp_path / name, ensemble="nvt", guard=None, **options), atoms, calculator, progress
            )
        finally:
            searches.append(calculator._neighbors.n_searches)

    run("a.extxyz")
    with pytest.raises(StopError):
        run("b.extxyz", stop)
    run("b.extxyz", resume=True)
    assert searches[0] > 3
    assert searches[2] > 1
    for suffix in ("extxyz", "csv"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_finished_run_can_be_made_longer(tmp_path, copper):
    options = KINDS["nose-hoover"]
    whole = in_one_part(tmp_path / "a" / "run.extxyz", copper, **options)
    (tmp_path / "b").mkdir()
    path = tmp_path / "b" / "run.extxyz"
    short = run_md(config(path, **options | {"steps": 9}), copper, EMT())
    assert short.samples["step"][-1] == 9
    longer = run_md(config(path, resume=True, **options), copper, EMT())
    assert longer.resumed_at == 9
    assert longer.trajectory.read_bytes() == whole.trajectory.read_bytes()  # without the last frame of the short run
    assert_same_run(whole, longer)
    again = run_md(config(path, resume=True, **options), copper, EMT())
    assert again.resumed_at == STEPS
    assert_same_run(whole, again)
    assert again.trajectory.read_bytes() == whole.trajectory.read_bytes()
    with pytest.raises(ConfigError, match=r"EQ1265: steps=9: the run to resume is already at 23"):
        run_md(config(path, resume=True, **options | {"steps": 9}), copper, EMT())


def test_changed_options_are_refused_by_name_and_nothing_is_touched(tmp_path, copper):
    in_one_part(tmp_path / "a" / "run.extxyz", copper)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    path = tmp_path / "a" / "run.extxyz"
    with pytest.raises(ConfigError, match=r"EQ1264.*ensemble: nve -> nvt; timestep: 3.0 -> 2.0; thermostat: None"):
        run_md(config(path, resume=True, timestep=2.0, ensemble="nvt"), copper, EMT())
    other = copper.copy()
    other.rattle(0.01, seed=1)
    with pytest.raises(ConfigError, match=r"EQ1264.*structure: Cu4 \w+ -> Cu4 \w+"):
        run_md(config(path, resume=True), other, EMT())
    other = copper.copy()
    other.set_constraint(FixAtoms([0]))
    with pytest.raises(ConfigError, match=r"EQ1264.*structure"):
        run_md(config(path, resume=True), other, EMT())
    with pytest.raises(ConfigError, match=r"EQ1264.*calculator: EMT -> "):
        run_md(config(path, resume=True), copper, type("Other", (EMT,), {})())
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    run_md(config(path, resume=True, guard=Limits(max_force=50.0), checkpoint_interval=9), copper, EMT())


def test_other_versions_and_threads_are_warned_of(tmp_path, copper, monkeypatch):
    in_one_part(tmp_path / "a" / "run.extxyz", copper)
    monkeypatch.setattr("ase.__version__", "2.0")
    with pytest.warns(UserWarning, match=r"ase \S+ -> 2.0; the last bits may differ"):
        run_md(config(tmp_path / "a" / "run.extxyz", resume=True), copper, EMT())


def test_what_cannot_be_continued_says_why(tmp_path, copper):
    path = tmp_path / "a" / "run.extxyz"
    with pytest.raises(ConfigError, match=r"EQ1263.*no checkpoint .*run.restart.npz; start the run without --resume"):
        run_md(config(path, resume=True), copper, EMT())
    with pytest.raises(ConfigError, match=r"EQ1261"):
        config(path, resume=True, force=True)
    in_one_part(path, copper)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(RunError, match=r"EQ5121: .*run.extxyz: is shorter than the checkpoint says"):
        run_md(config(path, resume=True), copper, EMT())
    path.unlink()
    with pytest.raises(RunError, match=r"EQ5121"):
        run_md(config(path, resume=True), copper, EMT())
    saved = path.with_suffix(".restart.npz").read_bytes()
    for damaged in (b"", b"rubbish", saved[: len(saved) // 2]):
        path.with_suffix(".restart.npz").write_bytes(damaged)
        with pytest.raises(RunError, match="EQ5120"):
            run_md(config(path, resume=True), copper, EMT())


@pytest.mark.parametrize(("suffix", "id"), [(".traj", "EQ5121"), (".h5", "EQ5921")])
def test_binary_trajectories_that_lost_frames_are_not_continued(tmp_path, copper, suffix, id):
    path = tmp_path / "a" / f"run{suffix}"
    in_one_part(path, copper)
    (tmp_path / "short").mkdir()
    run_md(config(tmp_path / "short" / f"run{suffix}", steps=1), copper, EMT())
    path.write_bytes((tmp_path / "short" / f"run{suffix}").read_bytes())
    with pytest.raises(RunError, match=id):
        run_md(config(path, resume=True), copper, EMT())
    path.unlink()
    with pytest.raises(RunError, match="EQ5121"):
        run_md(config(path, resume=True), copper, EMT())
