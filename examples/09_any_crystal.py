"""Any crystal: relax the cell, equation of state, phonons, molecular dynamics.

python examples/09_any_crystal.py                                  silicon, by a potential that is included
eqff get 7net-0 && python examples/09_any_crystal.py my.cif 7net-0 any crystal of 89 elements

The same as commands, with pictures:

    eqff relax 7net-0 my.cif --cell -o crystal.extxyz
    eqff eos 7net-0 crystal.extxyz -o eos
    eqff phonons 7net-0 crystal.extxyz -o phonons
    eqff md 7net-0 --structure crystal.extxyz --ensemble npt --steps 1000 -o md.extxyz

Phonons need `pip install "eqff[crystals]"`.
"""

import sys
from pathlib import Path

from ase import units
from ase.build import bulk
from ase.io import read
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta

import eqff
from eqff.tasks.eos import EosConfig, run_eos
from eqff.tasks.phonons import PhononsConfig, run_phonons

name = sys.argv[2] if len(sys.argv) > 2 else "si-nequip"
calculator = eqff.EqffCalculator(name)
crystal, course = eqff.relax(name, read(sys.argv[1]) if len(sys.argv) > 1 else bulk("Si"), cell=True, fmax=1e-3)
print(f"relaxed in {course.n_steps} steps: {crystal.cell.cellpar().round(4).tolist()}")
eos = run_eos(EosConfig(output=Path("eos"), force=True), crystal, calculator)
print(f"{eos.volume / len(crystal):.3f} Å^3 per atom, bulk modulus {eos.bulk_modulus:.1f} GPa")
phonons = run_phonons(PhononsConfig(output=Path("phonons"), min_width=9.0, mesh=30.0, force=True), crystal, calculator)
print(f"lowest frequency {phonons.lowest:.2f} THz, heat capacity at 300 K {phonons.at_300_kelvin[2]:.2f} J/(K mol)")
atoms = crystal.repeat(2)
atoms.calc = calculator
thermalize_momenta(atoms, temperature_K=300.0)
Bussi(atoms, 2.0 * units.fs, temperature_K=300.0, taut=50.0 * units.fs).run(100)
print(f"temperature after 100 steps: {atoms.get_temperature():.0f} K")
