"""The other end of a benchmark: one calculator behind a pipe, moving atoms when asked to.

Requests are JSON lines on standard input, answers JSON lines on the file descriptor given as first argument (libraries
print on standard output).  Imports nothing but ase and numpy, so it runs in every peer's environment.
"""

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator


class Dynamics:
    """Velocity Verlet of a calculator's forces plus a spring from every atom to its place.

    The springs keep structures of an untrained model near their start; they belong to the benchmark, not to the model,
    and are not timed. Timed is what ASE's own integrators ask for: energy and forces of moved atoms.
    """

    def __init__(self, calculator: Calculator, request: dict[str, Any]) -> None:
        self.atoms = Atoms(request["numbers"], request["positions"], cell=request["cell"], pbc=request["pbc"])
        self.atoms.calc = calculator
        self.places = np.array(request["places"])
        self.velocities = np.array(request["velocities"])
        self.spring, self.timestep = request["spring"], request["timestep"] * units.fs
        self.masses = self.atoms.get_masses()[:, None]
        self.acceleration = self._acceleration()

    def _acceleration(self) -> np.ndarray:
        forces = self.atoms.get_forces() - self.spring * (self.atoms.positions - self.places)
        return forces / self.masses

    def step(self, n_steps: int) -> dict[str, Any]:
        """Wall and process times of n_steps, ms."""
        wall, cpu = [], []
        for _ in range(n_steps):
            self.velocities += 0.5 * self.timestep * self.acceleration
            self.atoms.positions += self.timestep * self.velocities
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            self.atoms.get_potential_energy()
            self.atoms.get_forces()
            cpu.append(1e3 * (time.process_time() - cpu_start))
            wall.append(1e3 * (time.perf_counter() - wall_start))
            self.acceleration = self._acceleration()
            self.velocities += 0.5 * self.timestep * self.acceleration
        kinetic = 0.5 * float((self.masses * self.velocities**2).mean())
        moved = float(np.linalg.norm(self.atoms.positions - self.places, axis=1).max())
        return {"wall_ms": wall, "cpu_ms": cpu, "temperature_K": 2 * kinetic / units.kB, "farthest_A": moved}


def evaluate(calculator: Calculator, request: dict[str, Any]) -> dict[str, Any]:
    """Energies and forces of several geometries of one structure."""
    atoms = Atoms(request["numbers"], request["frames"][0], cell=request["cell"], pbc=request["pbc"])
    atoms.calc = calculator
    energies, forces = [], []
    for positions in request["frames"]:
        atoms.positions = positions
        energies.append(float(atoms.get_potential_energy()))
        forces.append(atoms.get_forces().tolist())
    return {"energies": energies, "forces": forces, "calculator": repr(calculator)[:1000]}


def peak_memory() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def serve_calculator(load: Callable[[dict[str, Any]], tuple[Calculator, dict[str, Any]]]) -> None:
    """Answer load, evaluate, start, step and memory."""
    state: dict[str, Any] = {}

    def on_load(request: dict[str, Any]) -> dict[str, Any]:
        state["calculator"], about = load(request)
        return about

    def on_start(request: dict[str, Any]) -> dict[str, Any]:
        state["dynamics"] = Dynamics(state["calculator"], request)
        return {}

    serve(
        {
            "load": on_load,
            "evaluate": lambda request: evaluate(state["calculator"], request),
            "start": on_start,
            "step": lambda request: state["dynamics"].step(request["n_steps"]),
            "memory": lambda request: {"peak_MB": peak_memory()},
        }
    )


def serve(commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Answer requests until standard input ends; an exception becomes an answer with `error`."""
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request["command"]](request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
