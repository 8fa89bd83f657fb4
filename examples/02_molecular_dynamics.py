"""Constant-energy molecular dynamics of ethanol, as Python; `eqff md ethanol-nequip` does the same and draws it.

python examples/02_molecular_dynamics.py
"""

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

import eqff

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("ethanol-nequip", dtype="float64")
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))

total = []
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
dynamics.attach(lambda: total.append(atoms.get_total_energy()))
dynamics.run(200)

spread = 1000 * (max(total) - min(total)) / len(atoms)
print(f"100 fs: the total energy stayed within {spread:.3f} meV/atom")
