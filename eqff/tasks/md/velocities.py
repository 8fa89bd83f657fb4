"""Initial velocities of a simulation, and the degrees of freedom that define its temperature."""

import math

import numpy as np
from ase import Atoms, units


def set_momenta(atoms: Atoms, temperature: float, rng: np.random.Generator, n_free: int) -> None:
    """Maxwell-Boltzmann momenta, scaled to the temperature.

    Args: atoms: changed in place, its constraints are kept; temperature K, reached exactly; rng: source of the draw;
          n_free: degrees of freedom that share it; if fewer than 3 n_atoms, the momenta have no net translation (and
          rotation, for molecules)
    """
    masses = atoms.get_masses()[:, None]
    velocity = rng.standard_normal((len(atoms), 3)) / np.sqrt(masses)
    if not atoms.constraints and n_free < 3 * len(atoms):
        velocity -= (masses * velocity).sum(0) / masses.sum()
        if not atoms.pbc.any():
            arm, inertia = _arms_and_inertia(atoms)
            velocity -= np.cross(np.linalg.pinv(inertia, rcond=1e-8) @ np.cross(arm, masses * velocity).sum(0), arm)
    atoms.set_momenta(masses * velocity)
    kinetic = atoms.get_kinetic_energy()
    target = 0.5 * n_free * units.kB * temperature
    atoms.set_momenta(atoms.get_momenta() * (math.sqrt(target / kinetic) if n_free and kinetic > 0.0 else 0.0))


def n_degrees_of_freedom(atoms: Atoms) -> int:
    """3 n_atoms less constraints, or less the translations and (molecules) rotations of free atoms."""
    if atoms.constraints:
        return int(atoms.get_number_of_degrees_of_freedom())
    n_rotations = 0
    if not atoms.pbc.any():
        moments = np.linalg.eigvalsh(_arms_and_inertia(atoms)[1])
        n_rotations = int((moments > 1e-8 * max(float(moments.max()), 1e-12)).sum())
    return max(3 * len(atoms) - 3 - n_rotations, 0)


def _arms_and_inertia(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Positions from the centre of mass [n_atoms, 3] Å and the inertia tensor [3, 3] amu Å^2."""
    masses, arm = atoms.get_masses(), atoms.positions - atoms.get_center_of_mass()
    inertia = np.eye(3) * (masses @ (arm**2).sum(1)) - (arm.T * masses) @ arm
    return arm, inertia
