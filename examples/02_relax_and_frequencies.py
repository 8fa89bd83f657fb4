"""A relaxed ethanol molecule and its vibrations; `eqff relax` and `eqff vib` do the same and write files.

python examples/02_relax_and_frequencies.py
"""

from ase.build import molecule
from ase.optimize import BFGS
from ase.vibrations import VibrationsData

import eqff

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("ethanol-nequip", dtype="float64")
print(f"energy      {atoms.get_potential_energy():.4f} eV, largest force {abs(atoms.get_forces()).max():.4f} eV/Å")

BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
print(f"relaxed     {atoms.get_potential_energy():.4f} eV, O-H {atoms.get_distance(2, 3):.3f} Å")

hessian = atoms.calc.get_hessian(atoms)  # analytic, [3 n_atoms, 3 n_atoms] eV/Å^2
vibrations = VibrationsData.from_2d(atoms, hessian)
frequencies = vibrations.get_frequencies()[6:].real  # the first six are translations and rotations
print("cm-1        " + " ".join(f"{frequency:.0f}" for frequency in frequencies))
print(f"zero-point energy {vibrations.get_zero_point_energy():.3f} eV, O-H stretch {frequencies[-1]:.0f} cm-1")
