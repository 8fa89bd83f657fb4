"""Both sides of a benchmark as child processes behind pipes, and the same NequIP for both."""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from structures import SYSTEMS, thermal

import eqff
from eqff import config as config_io
from eqff.exporter import export
from eqff.importers.nequip import convert

SCRIPTS = Path(__file__).parent / "peers"
SPRING = 5.0  # eV/Å^2, of every atom to its place: 0.07 Å along each axis at 300 K, lists have to be rebuilt


class UnavailableError(Exception):
    """A side that cannot take part here, with the reason."""


class Side:
    """A worker of peers/ in its own environment: ask() sends one request and waits for the answer.

    Args: python: of its environment; script: file in peers/; threads: OpenMP threads; log: gets what it prints
    """

    def __init__(self, python: Path, script: str, threads: int, log: Path) -> None:
        if not python.exists():
            raise UnavailableError(f"{python} is missing; make it with peers/make_environments.sh")
        environment = eqff_environment(threads) if python == Path(sys.executable) else thread_environment(threads)
        read_end, write_end = os.pipe()
        with log.open("a", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [python, "-W", "ignore", SCRIPTS / script, str(write_end)],
                env=environment,
                pass_fds=[write_end],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                text=True,
            )
        os.close(write_end)
        self.answers = os.fdopen(read_end, encoding="utf-8")
        self.log = log

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one request.  Raises: UnavailableError if there is none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.answers.readline() or '{"error": "the process ended"}')
        except BrokenPipeError:
            answer = {"error": "the process ended"}
        if "error" in answer:
            raise UnavailableError(f"{command}: {answer['error']} (see {self.log})")
        return answer

    def close(self) -> None:
        """End the process."""
        self.answers.close()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment with another number of threads."""
    count = str(threads)
    return {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}


def eqff_environment(threads: int) -> dict[str, str]:
    """As `thread_environment`; the child imports the eqff that is running here, installed or not."""
    environment = thread_environment(threads)
    environment["PYTHONPATH"] = str(Path(eqff.__file__).parents[1])
    return environment


def model_arguments(arguments: argparse.Namespace, l_max: int) -> dict[str, Any]:
    """Arguments of nequip's NequIPGNNModel; natural parity is its `parity: false`."""
    return {
        "seed": 0,
        "model_dtype": "float32",
        "r_max": 5.0,
        "type_names": ["H", "C", "O", "Si"],
        "num_layers": arguments.layers,
        "l_max": l_max,
        "parity": False,
        "num_features": arguments.channels,
        "radial_mlp_depth": 1,
        "radial_mlp_width": 64,
        "avg_num_neighbors": 20.0,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
    }


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that both benchmarks share."""
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="folder with the peers' environments")
    parser.add_argument("--models", type=Path, help="folder where nequip's models are kept  [OUTPUT/models]")
    parser.add_argument("--l-max", type=int, nargs="+", default=[2])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--force", action="store_true", help="overwrite results in OUTPUT")


def prepare_output(folder: Path, force: bool) -> None:
    """Refuse to overwrite results."""
    if (folder / "results.json").exists() and not force:
        sys.exit(f"{folder}/results.json exists; choose another --output, or overwrite with --force")
    folder.mkdir(parents=True, exist_ok=True)


def peer_python(peers: Path, name: str) -> Path:
    """Interpreter of a peer's environment."""
    return peers.absolute() / name / "bin" / "python"


def make_nequip_model(
    peers: Path, models: Path, model: dict[str, Any], threads: Sequence[int], system: str = "aspirin"
) -> Path:
    """Folder with nequip's checkpoint, weights.npz and one AOTInductor package per number of threads.

    Args: system: whose structure nequip gets as example data  Raises: UnavailableError
    """
    python = peer_python(peers, "nequip")
    if not python.exists():
        raise UnavailableError(f"{python} is missing; make it with peers/make_environments.sh")
    folder = models / f"l{model['l_max']}-{model['num_features']}x{model['num_layers']}"
    folder.mkdir(parents=True, exist_ok=True)
    frames, log = folder / "frames.extxyz", folder / "nequip.log"  # the checkpoint refers to the frames
    if not frames.exists():
        write(frames, [labelled(SYSTEMS[system](), seed) for seed in range(2)])
    command = [python, SCRIPTS / "nequip_model.py", folder, frames, json.dumps(model), "--threads", *map(str, threads)]
    print(f"nequip l_max {model['l_max']}: model in {folder} (compiling takes minutes the first time)", flush=True)
    with log.open("a", encoding="utf-8") as file:
        run = subprocess.run([str(part) for part in command], stdout=file, stderr=file, check=False)
    if run.returncode:
        raise UnavailableError(f"nequip's tools failed, see {log}")
    return folder


def labelled(atoms: Atoms, seed: int) -> Atoms:
    """A rattled copy with made-up labels, molecules in a wide periodic box: nequip-compile checks the stress, too."""
    if not atoms.pbc.any():
        atoms.set_cell([25.0] * 3)
        atoms.pbc = True
    atoms.positions = thermal(atoms, 300.0, SPRING, seed)[0]
    forces = 0.1 * np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
    return atoms


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configuration and weights of a weights.npz."""
    with np.load(path) as file:
        state = {name[2:]: file[name] for name in file.files if name.startswith("w/")}
        return json.loads(str(file["config"])), state


def import_model(weights: Path, path: Path) -> None:
    """nequip's weights through eqff's importer into a potential file."""
    imported = convert(*read_weights(weights))
    config = config_io.to_mapping(imported.config)
    export(imported.model.to(torch.float32), "nequip", config, path, force=True)


def trained_parameters(weights: Path) -> int:
    """Parameters of nequip's model (constants such as coupling coefficients and scales are not counted)."""
    with np.load(weights) as file:
        return sum(file[name].size for name in file.files if name.startswith("w/") and name.endswith("weight"))


def plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10 ... on a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in lines.splitlines() if line.startswith("model name")]
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": available,
        "python": platform.python_version(),
    }
