"""Fine-tuning on 50 frames: a potential of another level of theory, against training from scratch.

`ethanol-nequip` learned PBE; the frames are GFN2-xTB, whose energies and forces are far from it. Both runs make 150
steps. Methanol, which no frame shows, tells how far other molecules move; its labels are those of the initial weights.

python examples/10_fine_tune.py
As a command: eqff train frames.extxyz@:50 --init-from ethanol-nequip --foreign methanol.xyz -o run
"""

import json
from pathlib import Path

from ase.build import molecule
from ase.io import write

import eqff

data = Path(__file__).parent / "data" / "ethanol_gfn2_500K_400frames.npz"
methanol = [molecule("CH3OH") for _ in range(4)]
for seed, atoms in enumerate(methanol):
    atoms.rattle(0.05, seed=seed)
write("methanol.xyz", methanol, format="extxyz")

given = ["data.energy_unit=kcal/mol", "data.n_train=50", "data.n_validation=50", "training.steps=150"]
quick = ["training.compile=false", "training.validate_every=10", "training.report=false", "training.export_best=false"]
start = ["init_from=ethanol-nequip", f"data.foreign={json.dumps(str(Path('methanol.xyz').resolve()))}"]
tuned = eqff.train(data, "runs/fine-tuned", overrides=[*given, *quick, *start])
scratch = eqff.train(data, "runs/from-scratch", overrides=[*given, *quick, "training.warmup_steps=30"])
forgotten = json.loads((tuned.folder / "forgotten.json").read_text())
print(f"methanol has moved by {forgotten['after']['forces_mae_meV_A']:.0f} meV/Å")
for label, run in (("from scratch", scratch), ("fine-tuned", tuned)):
    print(f"{label}: forces {run.best['forces_mae_meV_A']:.1f} meV/Å, energy {run.best['energy_mae_meV']:.1f} meV")
