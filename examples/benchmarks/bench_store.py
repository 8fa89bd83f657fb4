"""Write frames to the store and read them at random, beside ASE's database; compare file sizes with npz.

python examples/benchmarks/bench_store.py --output RESULTS [--frames 1000000] [--atoms 21] [--peer-frames 20000]

Frames are one molecule with thermal noise in every digit (the worst case for compression), energy and forces.  The
store and the database run in separate processes and take turns, some batches of 64 random frames at a time, so that
other load on the machine slows both.  ASE's database holds fewer frames, as filling it takes long; that makes it
faster, not slower.  OUTPUT gets table.md and results.json.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np

BATCH = 64
ATOMS_SEED = 5


def molecule(n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers and positions of a bent chain of atoms 1.5 Å apart."""
    random = np.random.default_rng(ATOMS_SEED)
    steps = random.normal(size=(n_atoms, 3))
    return random.choice([1, 6, 8], n_atoms), np.cumsum(1.5 * steps / np.linalg.norm(steps, axis=1)[:, None], axis=0)


def arrays(start: int, count: int, n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, forces and energies of frames from number `start`, a multiple of `count`."""
    random = np.random.default_rng([ATOMS_SEED, start])
    _, mean = molecule(n_atoms)
    shape = (count, n_atoms, 3)
    return mean + 0.1 * random.normal(size=shape), random.normal(size=shape), -17000 + 0.3 * random.normal(size=count)


def make_frames(n_frames: int, n_atoms: int) -> Iterator[Any]:
    """Frames, one at a time."""
    from eqff.data.frame import Frame

    numbers, _ = molecule(n_atoms)
    for start in range(0, n_frames, 1000):
        for positions, forces, energy in zip(*arrays(start, 1000, n_atoms), strict=True):
            yield Frame(atomic_numbers=numbers, positions=positions, forces=forces, energy=float(energy))


class StoreSide:
    """eqff's store."""

    def __init__(self, folder: Path, n_frames: int, n_atoms: int) -> None:
        import eqff.data.store.store  # noqa: F401, so that no measurement contains the time of imports

        self.path = folder / "frames.h5"
        self.n_frames, self.n_atoms = n_frames, n_atoms
        self.store: Any = None  # a Store, once it is open

    def write(self) -> int:
        from eqff.data.store.store import write_store

        write_store(self.path, make_frames(self.n_frames, self.n_atoms))
        return self.path.stat().st_size

    def make(self) -> int:
        """Make the frames only; this time is subtracted from that of writing."""
        return sum(1 for _ in make_frames(self.n_frames, self.n_atoms))

    def open(self) -> int:
        from eqff.data.store.store import Store

        self.store = Store(self.path)
        return len(self.store)

    def read(self, batches: list[list[int]]) -> float:
        return float(sum(self.store.frames_at(batch)[0].positions[0, 0] for batch in batches))

    def sequential(self) -> int:
        return sum(1 for _ in self.store)

    def verify(self) -> None:
        self.store.verify()


class AseSide:
    """ASE's database in SQLite."""

    def __init__(self, folder: Path, n_frames: int, n_atoms: int) -> None:
        self.path, self.n_frames, self.n_atoms = folder / "frames.db", n_frames, n_atoms

    def write(self) -> int:
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.db import connect

        with connect(self.path) as database:
            for frame in make_frames(self.n_frames, self.n_atoms):
                atoms = Atoms(frame.atomic_numbers, frame.positions)
                atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
                database.write(atoms)
        return self.path.stat().st_size

    def open(self) -> int:
        from ase.db import connect

        self.database = connect(self.path)
        return self.n_frames

    def read(self, batches: list[list[int]]) -> float:
        total = 0.0
        with self.database:  # one connection for all batches, the fastest way
            for batch in batches:
                atoms = [self.database.get(id=i + 1).toatoms() for i in batch]
                total += float(atoms[0].positions[0, 0])
        return total


def serve(kind: type, settings: tuple, pipe: Any) -> None:
    """Answer requests (method, arguments) with (answer, wall seconds, CPU seconds, peak memory in MB)."""
    side = kind(*settings)
    while (request := pipe.recv()) is not None:
        method, arguments = request
        wall, cpu = time.perf_counter(), time.process_time()
        answer = getattr(side, method)(*arguments)
        times = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send((answer, *times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3))


class Side:
    """The other end of `serve`."""

    def __init__(self, kind: type, *settings: Any) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(kind, settings, theirs), daemon=True)
        self.process.start()

    def ask(self, method: str, *arguments: Any) -> tuple[Any, float, float, float]:
        self.pipe.send((method, arguments))
        return self.pipe.recv()

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join()


def npz_sizes(folder: Path, n_frames: int, n_atoms: int) -> dict[str, float]:
    """Bytes a frame of the same numbers as npz, plain and compressed."""
    parts = [arrays(start, 1000, n_atoms) for start in range(0, n_frames, 1000)]
    content: dict[str, Any] = {name: np.concatenate(p) for name, p in zip("RFE", zip(*parts, strict=True), strict=True)}
    np.savez(folder / "plain.npz", z=molecule(n_atoms)[0], **content)
    np.savez_compressed(folder / "compressed.npz", z=molecule(n_atoms)[0], **content)
    return {f"npz {name}": (folder / f"{name}.npz").stat().st_size / n_frames for name in ("plain", "compressed")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder for results; data lie there meanwhile")
    parser.add_argument("--frames", type=int, default=1_000_000, help="in the store, a multiple of 1000")
    parser.add_argument("--peer-frames", type=int, default=20_000, help="in ASE's database and npz")
    parser.add_argument("--atoms", type=int, default=21)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    folder = arguments.output / "data"
    folder.mkdir(parents=True)
    results: dict[str, Any] = {
        "frames": arguments.frames,
        "atoms": arguments.atoms,
        "versions": {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version, "ase": ase.__version__},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg()[0],
    }
    store = Side(StoreSide, folder, arguments.frames, arguments.atoms)
    peer = Side(AseSide, folder, arguments.peer_frames, arguments.atoms)
    _, making, making_cpu, results["memory_before_MB"] = store.ask("make")
    size, wall, cpu, results["memory_MB"] = store.ask("write")
    results["written, frames/s"] = arguments.frames / (wall - making)
    results["written, frames/s of CPU"] = arguments.frames / (cpu - making_cpu)
    results["store, bytes/frame"] = size / arguments.frames
    size, wall, cpu, _ = peer.ask("write")
    results["written by ASE, frames/s"] = arguments.peer_frames / wall
    results["ASE db, bytes/frame"] = size / arguments.peer_frames
    sizes = npz_sizes(folder, arguments.peer_frames, arguments.atoms)
    results |= {f"{name}, bytes/frame": value for name, value in sizes.items()}
    _, results["opened, s"], _, _ = store.ask("open")
    peer.ask("open")
    random = np.random.default_rng(1)
    rounds: dict[str, list[tuple[float, float]]] = {"store": [], "ASE db": []}
    for _ in range(arguments.rounds):
        for name, side, n_frames, n_batches in (
            ("store", store, arguments.frames, 500),
            ("ASE db", peer, arguments.peer_frames, 15),
        ):
            batches = [random.choice(n_frames, BATCH, replace=False).tolist() for _ in range(n_batches)]
            _, wall, cpu, memory = side.ask("read", batches)
            rounds[name].append((n_batches * BATCH / wall, n_batches * BATCH / cpu))
            if name == "store":
                results["memory_MB"] = memory
    _, wall, _, _ = store.ask("sequential")
    results["read one after the other, frames/s"] = arguments.frames / wall
    _, wall, _, results["memory_MB"] = store.ask("verify")
    results["verified, frames/s"] = arguments.frames / wall
    store.stop()
    peer.stop()
    shutil.rmtree(folder)
    for name, values in rounds.items():
        wall, cpu = np.array(values).T
        results[f"{name} at random, frames/s"] = float(np.median(wall))
        results[f"{name} at random, frames/s (least, most)"] = [float(wall.min()), float(wall.max())]
        results[f"{name} at random, frames/s of CPU"] = float(np.median(cpu))
    factors = np.array(rounds["store"])[:, 0] / np.array(rounds["ASE db"])[:, 0]
    results["times ASE db"] = float(np.median(factors))
    results["times ASE db (least, most)"] = [float(factors.min()), float(factors.max())]
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [f"| {name} | {_text(value)} |" for name, value in results.items()]
    table = "\n".join(["| | |", "| --- | --- |", *lines])
    (arguments.output / "table.md").write_text(table + "\n")
    print(table)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_text(part) for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    main()
