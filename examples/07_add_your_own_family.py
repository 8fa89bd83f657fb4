"""A family of your own, from a file to molecular dynamics: the guide for contributors.

The model is examples/my_families/soft_density.py: read it first, it is 60 lines on top of
eqff.nn.energy_model.EnergyModel.  The name of its file is the name of the family.  The file can be in one of three
places; training, export, inspection, engines and the command line then find the family by its name:

  here         a folder of yours, added to the path of `eqff.models` (below)
  a package    [project.entry-points."eqff.models"]   soft_density = "my_package.soft_density"   in its pyproject.toml
  eqff itself  eqff/models/soft_density.py and tests/conformance/smallest/soft_density.toml, without any other edit:
               `pytest tests/conformance -k soft_density` then examines symmetries, cut-off, derivatives, TorchScript

python examples/07_add_your_own_family.py
"""

import time
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

import eqff
import eqff.models
from eqff import registry
from eqff.training.folder.trained import export_run
from eqff.training.run import train

here = Path(__file__).parent
eqff.models.__path__.append(str(here / "my_families"))
print("families:", ", ".join(registry.names("models")))

overrides = [  # the recipe is written for NequIP, whose model section does not fit
    "model={family='soft_density', r_max=5.0, n_channels=16}",
    "data.n_train=100",
    "training.epochs=6",
    "training.export_best=false",
    "training.report=false",
]
run = train(here / "data" / "ethanol_gfn2.toml", f"runs/soft_density-{int(time.time())}", overrides=overrides).folder
header = export_run(run, "soft-density.eqff.pt", force=True)  # verified in a fresh process that imports only torch
print(f"{header['family']}: {header['n_parameters']} parameters, {header['r_max']} Å x {header['n_hops']} hop")

atoms = molecule("CH3CH2OH")
atoms.calc = eqff.EqffCalculator("soft-density.eqff.pt")
MaxwellBoltzmannDistribution(atoms, temperature_K=100, rng=np.random.default_rng(0))
before = atoms.get_total_energy()
VelocityVerlet(atoms, 0.25 * units.fs).run(100)
print(f"total energy after 25 fs of dynamics changed by {1000 * (atoms.get_total_energy() - before):+.3f} meV")
