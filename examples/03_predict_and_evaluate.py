"""Predict every frame of a file, and compare with its labels; on the command line, `eqff predict` and `eqff evaluate`.

The labels here are GFN2-xTB and the potential was trained on DFT (PBE): the printed errors are the difference between
two levels of theory. Their energies differ by a constant, so look at the aligned error.

python examples/03_predict_and_evaluate.py
"""

from pathlib import Path

import ase.io

import eqff
from eqff.data.reading.write import write_frames
from eqff.report.errors import plot_parity
from eqff.tasks.predict import PredictConfig, run_predict

sample = Path(__file__).parent / "data" / "ethanol_gfn2_500K_400frames.npz"
frames = eqff.read_frames(sample, energy_unit="kcal/mol")[:60]
potential = eqff.load("ethanol-nequip")

# in memory, for frames, ase.Atoms or a file
first = eqff.predict(potential, frames[:2])[0]
print(f"frame 0: {first.energy:.3f} eV, forces {first.forces.shape}")

# from file to file, of any size: only one batch at a time is in memory
source, output = Path("labelled.extxyz"), Path("predicted.extxyz")
write_frames(source, frames, force=True)
report = run_predict(PredictConfig(source=source, output=output, force=True), potential)
print(f"{report.n_frames} frames at {report.frames_per_second:.0f} frames/s")
print(f"last frame: {ase.io.read(output).info['eqff_energy']:.3f} eV")

found = eqff.evaluate(potential, frames)
plot_parity("parity.png", found.values, "a DFT potential on GFN2-xTB labels")
worst = found.worst_forces[0]
print(f"worst: frame {worst['frame']}, atom {worst['atom']} ({worst['element']}); see parity.png")
names = ("forces_mae_meV_A", "energy_aligned_mae_meV")
print(", ".join(f"{name} {found.metrics[name]:.1f}" for name in names))
