"""From labelled frames to molecular dynamics: train a small NequIP for a minute, export it, run it.

The frames are ethanol at 500 K, labelled with GFN2-xTB (tblite 0.8.0). With few frames and a small model, this shows
the steps, not the accuracy; for that, see potentials/ethanol-nequip/recipe.toml.

python examples/04_train_and_export.py
"""

import logging
from pathlib import Path

from ase.build import molecule

import eqff

logging.basicConfig(level=logging.INFO, format="%(message)s")
run = Path("runs/ethanol_gfn2")
eqff.train(Path(__file__).parent / "data" / "ethanol_gfn2.toml", run)
eqff.export(run, "ethanol-gfn2.eqff.pt", force=True)

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("ethanol-gfn2.eqff.pt")
print(f"energy {atoms.get_potential_energy():.3f} eV; learning curve in {run}/learning_curve.png")
