"""Every task that writes refuses an output that someone else is writing, whatever it may replace or continue."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from toys import Repulsion, ethanol, potential_of

from eqff import exporter
from eqff.data.reading.write import write_frames
from eqff.engines.ase import EqffCalculator
from eqff.errors import ResourceError
from eqff.files import locked
from eqff.tasks.md import MDConfig, run_md
from eqff.tasks.predict import PredictConfig, run_predict
from eqff.tasks.relax import RelaxConfig, run_relax
from eqff.tasks.sample import SampleConfig, run_sample
from eqff.tasks.vibrations import VibrationsConfig, run_vibrations


@pytest.fixture
def other_writer(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Lets another thread hold the lock of a file."""
    done, threads = threading.Event(), []

    def hold(name: str) -> Path:
        held = threading.Event()

        def write() -> None:
            with locked(tmp_path / name):
                held.set()
                done.wait()

        threads.append(threading.Thread(target=write))
        threads[-1].start()
        assert held.wait(timeout=30)
        return tmp_path / name

    yield hold
    done.set()
    for thread in threads:
        thread.join()


def copper() -> Atoms:
    return Atoms("Cu2", positions=[[0, 0, 0], [2.3, 0, 0]])


def md(path: Path, **options: Any) -> object:
    return run_md(MDConfig(trajectory=path, steps=2, **options), copper(), EMT())


def predict(path: Path, **options: Any) -> object:
    source = path.with_name("in.extxyz")
    ase.io.write(source, ethanol())
    return run_predict(PredictConfig(source=source, output=path, **options), potential_of(Repulsion()))


def relax(path: Path, **options: Any) -> object:
    return run_relax(RelaxConfig(output=path, **options), [copper()], EMT())


def sample(path: Path, **options: Any) -> object:
    return run_sample(SampleConfig(output=path, n_frames=2, **options), copper(), EMT)


def convert(path: Path, **options: Any) -> object:
    return write_frames(path, iter(()), **options)


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        (md, "out.extxyz", {}),
        (md, "out.extxyz", {"force": True}),
        (md, "out.csv", {}),  # the log, which a run of another suffix shares
        (predict, "out.extxyz", {}),
        (predict, "out.extxyz", {"force": True}),
        (predict, "out.extxyz", {"resume": True}),
        (relax, "out.extxyz", {"force": True}),
        (relax, "out_trajectory.extxyz", {}),
        (sample, "out.extxyz", {"resume": True}),
        (convert, "out.extxyz", {"force": True}),
    ],
)
def test_a_running_writer_is_left_alone(
    tmp_path: Path, other_writer: Callable[[str], Path], task: Callable[..., object], name: str, options: dict[str, Any]
) -> None:
    held = other_writer(name)
    with pytest.raises(ResourceError, match=rf"(EQ6131|EQ6202).*{held.name}.*another thread of this process writes"):
        task(tmp_path / "out.extxyz", **options)
    assert {path.name for path in tmp_path.iterdir()} <= {f".{name}.lock", "in.extxyz"}


def test_vibrations_and_potentials(tmp_path: Path, other_writer: Callable[[str], Path]) -> None:
    (tmp_path / "vib").mkdir()
    folder = other_writer("vib")
    with pytest.raises(ResourceError, match="EQ6131"):
        run_vibrations(
            VibrationsConfig(output=folder, force=True), ethanol(), EqffCalculator(potential_of(Repulsion()))
        )
    file = other_writer("out.eqff.pt")
    with pytest.raises(ResourceError, match="EQ6131"), exporter.only_exporter(file, force=True):
        pass
