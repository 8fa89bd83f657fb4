"""ASE: a potential as an ASE calculator.

    from eqff.engines.ase import EqffCalculator
    atoms.calc = EqffCalculator("ethanol-nequip")

calculator.py  EqffCalculator
calculators.py other calculators by name: "tblite:GFN2-xTB", "emt", "my_module:make"
baseline.py    the calculator whose results are added to those of a potential trained on differences

Energy eV, forces eV/Å, stress eV/Å^3 in Voigt order xx yy zz yz xz xy, tension positive (ASE's conventions).
"""

from eqff.engines.ase.calculator import EqffCalculator, charge_and_spin

__all__ = ["EqffCalculator", "charge_and_spin"]
