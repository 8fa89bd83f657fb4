"""Molecular dynamics in ten lines, through ASE; `eqff md ethanol-nequip` does the same with a guard and a picture.

python examples/01_molecular_dynamics.py
"""

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

import eqff

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("ethanol-nequip")
print(f"energy {atoms.get_potential_energy():.4f} eV, largest force {abs(atoms.get_forces()).max():.4f} eV/Å")

thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
total = []
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
dynamics.attach(lambda: total.append(atoms.get_total_energy()))
dynamics.run(200)
print(f"100 fs: the total energy stayed within {1000 * (max(total) - min(total)) / len(atoms):.3f} meV/atom")
