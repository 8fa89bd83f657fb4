"""How errors fall with the number of labelled frames, with and without features of degree l > 0.

python examples/benchmarks/data_efficiency.py rmd17_ethanol_train_01.npz --test rmd17_ethanol_test_01.npz
    --energy-unit kcal/mol -o runs/data_efficiency [--counts 50 100 200 400 1000] [--l-max 0 2] [--steps 8000]

Every run makes the same number of optimiser steps with the same recipe; of the labelled frames one in twenty (at least
5) chooses the checkpoint: 950 + 50 of 1000, as in the papers. Finished runs are skipped, a stopped run
continues, and the test frames are read once for each. Writes table.csv and data_efficiency.png. A slope is that of log
error against log frames, least squares over all counts.
"""

from pathlib import Path

import campaign

from eqff.data.reading.read import read_frames
from eqff.report import plots

COLOURS = (plots.VERMILION, plots.SKY, plots.BLUE, plots.GREEN)  # by l_max

parser = campaign.parser(__doc__, steps=8000)
parser.add_argument("train", type=Path)
parser.add_argument("--test", type=Path, required=True, help="frames for the errors of the table")
parser.add_argument("--energy-unit")
parser.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200, 400, 1000])
parser.add_argument("--l-max", type=int, nargs="+", default=[0, 2])
arguments = parser.parse_args()

n_frames = len(read_frames(arguments.train, energy_unit=arguments.energy_unit))
test = read_frames(arguments.test, energy_unit=arguments.energy_unit)
rows = []
for count in arguments.counts:
    split = campaign.nested_split(n_frames, count, 0, arguments.seed)
    for l_max in arguments.l_max:
        folder = arguments.output / f"l{l_max}_{count}"
        settings = campaign.recipe(arguments.train, split, arguments, {"l_max": l_max})
        campaign.train(folder, settings, split)
        found = campaign.measured(folder, "test", test) | campaign.cost(folder)
        rows.append({"series": f"l_max {l_max}", "labelled_frames": count, **found})
        campaign.show(
            arguments.output / "data_efficiency.png",
            rows,
            {f"l_max {l}": (COLOURS[l % len(COLOURS)], f"l_max {l}") for l in arguments.l_max},
            f"{arguments.train.stem}: {arguments.steps} steps of the optimiser each",
        )
campaign.print_table(rows)
