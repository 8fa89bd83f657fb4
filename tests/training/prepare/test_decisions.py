"""Decisions that follow from the data: counts add up, steps become epochs, only equal batches are compiled."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset
from eqff.data.splits import random_split
from eqff.data.store.store import Store, write_store
from eqff.errors import ConfigError
from eqff.kernels import build
from eqff.training.config import DataConfig, RunConfig, TrainingConfig, check
from eqff.training.prepare.decisions import counts, edges_of_largest, interval, n_epochs, why_eager

R_MAX = 2.5
CONFIG = RunConfig(
    data=DataConfig(train=__file__), model={"family": "nequip"}, training=TrainingConfig(batch_size=5, compile="auto")
)


def changed(config: RunConfig, **training: object) -> RunConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **training))


def frame(n_atoms: int, seed: int = 0, cell: float = 0.0, spread: float = 0.1) -> Frame:
    """A chain of hydrogen atoms 1 Å apart, displaced at random; periodic if there is a cell."""
    moved = spread * np.random.default_rng(seed).standard_normal((n_atoms, 3))
    positions = moved + np.arange(n_atoms)[:, None] * np.array([1.0, 0.0, 0.0])
    pbc = np.full(3, cell > 0.0)
    numbers = np.ones(n_atoms, dtype=np.int64)
    labels = {"energy": 0.0, "forces": np.zeros((n_atoms, 3))}
    return Frame(atomic_numbers=numbers, positions=positions, cell=np.eye(3) * cell, pbc=pbc, **labels)


def reason(frames: list[Frame] | Store, degree: float = 4.0, config: RunConfig = CONFIG) -> str | None:
    split = random_split(len(frames), 10, 1)
    return why_eager(config.training, FrameDataset(frames, ["H"], R_MAX), split, degree)


@given(st.integers(2, 300_000), st.integers(1, 20))
def test_counts_add_up(n_frames: int, batch_size: int) -> None:
    n_train, n_validation = counts(CONFIG.data, changed(CONFIG, batch_size=batch_size).training, n_frames)
    assert n_train >= 1
    assert n_train + n_validation == n_frames
    assert n_train % batch_size == 0 or n_train < batch_size
    least = min(max(n_frames // 20, 1), 1000)
    assert least <= n_validation < least + batch_size


@pytest.mark.parametrize(
    ("n_frames", "given_counts", "expected"),
    [
        (1000, {}, (950, 50)),
        (20, {}, (15, 5)),
        (2, {}, (1, 1)),
        (100_000, {}, (99_000, 1000)),
        (1000, {"n_train": 400}, (400, 21)),
        (1000, {"n_train": 980}, (980, 20)),  # 5 % would be more than there are
        (1000, {"n_validation": 97}, (900, 97)),
        (1000, {"n_train": 3, "n_validation": 2}, (3, 2)),
    ],
)
def test_counts(n_frames: int, given_counts: dict[str, int], expected: tuple[int, int]) -> None:
    assert counts(DataConfig(train="", **given_counts), CONFIG.training, n_frames) == expected


@pytest.mark.parametrize(
    ("n_frames", "given_counts", "said"),
    [
        (1, {}, "data.train: of 1 frames"),
        (20, {"n_train": 20}, "data.n_train=20: of 20 frames"),
        (20, {"n_validation": 20}, "data.n_validation=20: of 20 frames"),
        (20, {"n_validation": 30}, "data.n_validation=30: of 20 frames"),
    ],
)
def test_too_few_frames(n_frames: int, given_counts: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"EQ1480.*{said}"):
        counts(DataConfig(train="", **given_counts), CONFIG.training, n_frames)


@pytest.mark.parametrize(("steps", "epochs"), [(9, 3), (11, 4), (1, 1), (300, 100), (0, 12)])
def test_steps_become_whole_epochs(steps: int, epochs: int) -> None:
    frames = [frame(3, seed) for seed in range(16)]
    split = random_split(16, 14, 2)  # 3 batches
    training = changed(CONFIG, steps=steps, epochs=12).training
    assert n_epochs(training, FrameDataset(frames, ["H"], R_MAX), split) == epochs


@pytest.mark.parametrize(("every", "epochs", "expected"), [(2, 4321, 2), (0, 4321, 43), (0, 12, 1)])
def test_a_run_validates_a_hundred_times(every: int, epochs: int, expected: int) -> None:
    assert interval(every, epochs) == expected


def test_epochs_of_batches_by_edges() -> None:
    frames = [frame(2, seed) for seed in range(6)]  # 2 edges each
    training = changed(CONFIG, steps=30, max_edges=4).training
    assert n_epochs(training, FrameDataset(frames, ["H"], R_MAX), random_split(6, 5, 1)) == 10


def test_all_frames_of_a_molecule_get_the_edges_of_the_largest() -> None:
    frames = [frame(5, seed, spread=0.5) for seed in range(12)]
    dataset, split = FrameDataset(frames, ["H"], R_MAX), random_split(12, 10, 2)
    counted = dataset.n_edges(range(12))
    equal = edges_of_largest(dataset, split)
    assert equal is not None
    assert equal[1] == counted.max() > counted.min()
    padded = dataset.with_equal_edges(*equal)
    assert set(padded.n_edges(range(12)).tolist()) == {equal[1]}
    fullest = int(counted.argmax())
    assert padded[fullest] is dataset[fullest]  # its list was not made again
    assert edges_of_largest(FrameDataset([frame(5, 0, cell=9.0)] * 3, ["H"], R_MAX), random_split(3, 2, 1)) is None


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiler", lambda: "/usr/bin/c++")


@pytest.mark.usefixtures("compiler")
def test_compiled_where_batches_are_equal() -> None:
    assert reason([frame(100, seed) for seed in range(12)]) is None  # about 2000 edges
    assert reason([frame(5, seed, spread=0.5) for seed in range(12)]) is None  # edges of molecules are made equal
    assert reason([frame(5, seed, cell=9.0, spread=0.01) for seed in range(12)]) is None  # 14 edges, 2 across


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("frames", "more", "expected"),
    [
        ([frame(5, seed, cell=9.0, spread=0.5) for seed in range(12)], {}, r"periodic frames have \d+ to \d+ edges"),
        ([frame(5 + (seed > 8), seed) for seed in range(12)], {}, "5 to 6 atoms"),
        ([frame(300, seed) for seed in range(12)], {}, "about 6000 edges"),
        ([frame(100, seed, cell=200.0) for seed in range(12)], {}, "about 2000 edges"),
        ([frame(5, seed) for seed in range(12)], {"batch_size": 4}, "10 training frames are not a multiple"),
        ([frame(5, seed) for seed in range(12)], {"max_edges": 40}, "max_edges"),
        ([frame(5, seed) for seed in range(12)], {"devices": 2}, "not a multiple of 2 processes"),
        ([frame(5, seed) for seed in range(12)], {"accelerator": "cuda"}, "GPU"),
    ],
)
def test_eager_where_they_are_not(frames: list[Frame], more: dict[str, object], expected: str) -> None:
    found = reason(frames, config=changed(CONFIG, **more))
    assert found is not None
    assert re.search(expected, found)


def test_eager_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiler", lambda: None)
    assert reason([frame(5, seed) for seed in range(12)]) == "no C++ compiler was found"


@pytest.mark.usefixtures("compiler")
def test_a_store_decides_as_its_frames(tmp_path: Path) -> None:
    for name, n_atoms in (("equal", 5), ("unequal", 6)):
        frames = [frame(5, seed) for seed in range(9)] + [frame(n_atoms, seed) for seed in range(9, 12)]
        write_store(tmp_path / f"{name}.h5", frames)
        with Store(tmp_path / f"{name}.h5") as store:
            assert reason(store) == reason(frames)
            assert (reason(store) is None) == (name == "equal")


def test_shares_of_a_compiled_batch_must_be_equal() -> None:
    with pytest.raises(ConfigError, match=r"EQ1431.*batch_size=5.*2 processes"):
        check(changed(CONFIG, compile=True, devices=2))
    check(changed(CONFIG, compile=True, devices=5))
    check(changed(CONFIG, devices=2))
