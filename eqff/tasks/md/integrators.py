"""ASE's integrators as this task uses them, and the internal variables that a checkpoint must keep.

Each step ends with forces at the new positions, so positions, momenta and cell belong to one moment.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms, units

from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.velocities import n_degrees_of_freedom

CONSERVED = {
    "nve": "total energy",
    "langevin": "",
    "nose-hoover": "extended-system energy",
    "npt": "extended-system energy",
}
_CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
# variables of ASE's classes besides positions, momenta and cell; forces follow from positions
STATE: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": (),
    "nose-hoover": _CHAIN,
    "npt": (*_CHAIN, "_eps", "_p_eps", "_volume0", "_cell0", "_barostat._xi", "_barostat._p_xi"),
}


def make_integrator(config: MDConfig, atoms: Atoms, rng: np.random.Generator) -> Any:
    """The integrator of `config.integrator`; it moves `atoms`.

    Args: atoms: with calculator and momenta; rng: source of Langevin noise
    """
    timestep, kind = config.timestep * units.fs, config.integrator
    if kind == "nve":
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, timestep)
    if kind == "langevin":
        from ase.md.langevinbaoab import LangevinBAOAB

        return LangevinBAOAB(
            atoms,
            timestep,
            temperature_K=config.temperature,
            T_tau=config.thermostat_time * units.fs,
            hydrostatic=True,  # the cell is fixed; this saves a matrix exponential per step
            rng=rng,
        )
    from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT

    # ASE's chains count 3 n_atoms; the total momentum is conserved and stays zero
    temperature = config.temperature * n_degrees_of_freedom(atoms) / (3 * len(atoms))
    damping = config.thermostat_time * units.fs
    if kind == "nose-hoover":
        return NoseHooverChainNVT(atoms, timestep, temperature_K=temperature, tdamp=damping)
    return IsotropicMTKNPT(
        atoms,
        timestep,
        temperature_K=temperature,
        pressure_au=config.pressure_gpa * units.GPa,
        tdamp=damping,
        pdamp=config.barostat_time * units.fs,
    )


def get_state(kind: str, dynamics: Any) -> dict[str, np.ndarray]:
    """Copies of the internal variables, by name."""
    return {name: np.array(attrgetter(name)(dynamics), dtype=np.float64) for name in STATE[kind]}


def set_state(kind: str, dynamics: Any, state: Mapping[str, np.ndarray], step: int) -> None:
    """Continue from a `get_state`; the atoms must already have the state of that moment."""
    dynamics.nsteps = step
    for name in STATE[kind]:
        owner, _, attribute = name.rpartition(".")
        value = state[name]
        setattr(
            attrgetter(owner)(dynamics) if owner else dynamics, attribute, value.copy() if value.ndim else value[()]
        )
