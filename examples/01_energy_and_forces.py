"""Energy, forces and a relaxed geometry of ethanol, through ASE.

python examples/01_energy_and_forces.py
"""

from ase.build import molecule
from ase.optimize import BFGS

import eqff

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("ethanol-nequip")

print(f"energy      {atoms.get_potential_energy():.4f} eV")
print(f"max. force  {abs(atoms.get_forces()).max():.4f} eV/Å")

BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
print(f"relaxed     {atoms.get_potential_energy():.4f} eV, O-H {atoms.get_distance(2, 3):.3f} Å")
