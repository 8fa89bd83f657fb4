"""Labels minus a cheap method's, learned from few frames (delta learning), against the same model on the labels.

python examples/benchmarks/delta_learning.py rmd17_ethanol_train_01.npz --energy-unit kcal/mol
    --baseline tblite:GFN2-xTB -o runs/delta [--counts 50 100 200] [--held-out 200] [--steps 4000]

Both have the same architecture, frames and number of optimiser steps; only `[data] baseline` differs.  Of the labelled
frames one in twenty (at least 5) chooses the checkpoint; errors are those on the held-out frames, the same for all, and
are errors of the sum of potential and baseline.  The first row is the baseline alone, its energies aligned.  Finished
runs are skipped, a stopped run continues.  Writes table.csv and delta_learning.png.

rMD17 ethanol (PBE/def2-SVP), 200 frames of the training file that no run was given, --steps 1500 and a small NequIP
(--set model.n_channels=16 --set model.n_layers=2, l_max 2), one CPU core, half a minute of it for a run; one seed:

| labelled frames | forces, MAE meV/Å: labels | on GFN2-xTB | energy, MAE meV: labels | on GFN2-xTB |
| --- | --- | --- | --- | --- |
| 50 | 98.2 | 30.7 | 28.3 | 7.6 |
| 100 | 67.8 | 25.9 | 15.9 | 6.7 |

GFN2-xTB alone: 342 meV/Å, 64 meV.
"""

import json
from pathlib import Path

import campaign
import numpy as np

from eqff.data.differences import difference
from eqff.data.reading.read import read_frames
from eqff.engines.ase.baseline import Baseline
from eqff.engines.ase.calculators import calculator_maker
from eqff.report import plots
from eqff.training.folder.trained import load_run

parser = campaign.parser(__doc__, steps=4000)
parser.add_argument("data", type=Path)
parser.add_argument("--energy-unit")
parser.add_argument("--baseline", required=True, metavar="CALCULATOR", help="as [data] baseline of a recipe")
parser.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200])
parser.add_argument("--held-out", type=int, default=200, help="frames for the errors of the table")
arguments = parser.parse_args()

frames = read_frames(arguments.data, energy_unit=arguments.energy_unit)
maker = calculator_maker(arguments.baseline)
held_out = [frames[index] for index in campaign.nested_split(len(frames), 1, arguments.held_out, arguments.seed).test]
baseline = Baseline(maker(), maker.name)
remains = [difference(f, baseline(f.positions, f.atomic_numbers, f.cell, f.pbc)) for f in held_out]
energy = np.array([frame.energy for frame in remains])
forces = np.concatenate([np.asarray(frame.forces).reshape(-1) for frame in remains])
alone = {
    "forces_mae_meV_A": 1e3 * float(np.abs(forces).mean()),
    "energy_mae_meV": 1e3 * float(np.abs(energy - energy.mean()).mean()),
}
print(f"baseline: {maker.level_of_theory}")
rows = [{"series": "baseline alone", "labelled_frames": "", **alone}]
for count in arguments.counts:
    split = campaign.nested_split(len(frames), count, arguments.held_out, arguments.seed)
    for series, target in (("scratch", held_out), ("delta", remains)):
        folder = arguments.output / f"{series}_{count}"
        settings = campaign.recipe(arguments.data, split, arguments, {})
        if series == "delta":
            settings["data"]["baseline"] = arguments.baseline
        campaign.train(folder, settings, split)
        kept = folder / "held_out.json"
        if not kept.is_file():  # the error of the difference is that of the sum
            run = load_run(folder / "run")
            kept.write_text(json.dumps(campaign.compare(run.model, run.config, target)) + "\n", encoding="utf-8")
        rows.append({"series": series, "labelled_frames": count, **campaign.read_json(kept), **campaign.cost(folder)})
        campaign.show(
            arguments.output / "delta_learning.png",
            rows,
            {
                "scratch": (plots.VERMILION, "from scratch"),
                "delta": (plots.BLUE, f"on {arguments.baseline}"),
                "baseline alone": (plots.GREY, "baseline alone, energies aligned"),
            },
            f"{arguments.data.stem}: {arguments.steps} steps of the optimiser each",
        )
campaign.print_table(rows)
