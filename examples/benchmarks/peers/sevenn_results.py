"""Energies of structures by sevenn's own ASE calculator; runs in an environment with sevenn, without eqff.

python sevenn_results.py structures.extxyz energies.npy MODEL [MODALITY]      eV, in the order of the file
"""

import sys

import numpy as np
from ase.io import read
from sevenn.calculator import SevenNetCalculator

structures, output, model, *modality = sys.argv[1:]
calculator = SevenNetCalculator(model, device="cpu", **({"modal": modality[0]} if modality else {}))
energies = []
for atoms in read(structures, index=":"):
    atoms.calc = calculator
    energies.append(atoms.get_potential_energy())
np.save(output, np.array(energies))
