"""A potential moved to another level of theory with few frames, against the same model trained on them from scratch.

python examples/benchmarks/fine_tuning.py ethanol_ccsd_t-train.npz --energy-unit kcal/mol --init-from ethanol-nequip
    -o runs/fine_tuning [--counts 50 100 200 400 800] [--held-out 200] [--steps 4000]

Both have the architecture of the potential and make the same number of optimiser steps, from the potential's weights at
a fifth of the learning rate, unless --learning-rate says otherwise. Reference energies, which hold what the levels of
theory differ by in the mean, are fitted to the labelled frames in both cases. Of the labelled frames one in twenty (at
least 5) chooses the checkpoint; errors are those on the held-out frames, the same for all. Finished runs are skipped, a
stopped run continues. Writes table.csv and fine_tuning.png; a slope is that of log error against log frames.
"""

from pathlib import Path
from typing import Any

import campaign

from eqff.artifact import inspect
from eqff.data.reading.read import read_frames
from eqff.rebuild import rebuild
from eqff.report import plots

OF_THE_DATA = ("species", "reference_energies", "avg_num_neighbors", "seed")  # not of the architecture
AS_IT_IS = "as it is"

parser = campaign.parser(__doc__, steps=4000)
parser.add_argument("data", type=Path)
parser.add_argument("--energy-unit")
parser.add_argument("--init-from", required=True, metavar="POTENTIAL", help="name or file")
parser.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200, 400, 800])
parser.add_argument("--learning-rate", type=float, default=0.002, help="of the fine-tuned models; from scratch: 0.01")
parser.add_argument("--held-out", type=int, default=200, help="frames for the errors of the table")
arguments = parser.parse_args()

frames = read_frames(arguments.data, energy_unit=arguments.energy_unit)
header = inspect(arguments.init_from)
model = {key: value for key, value in header["config"].items() if key not in OF_THE_DATA}
model["family"] = header["family"]
place = str(Path(arguments.init_from).resolve()) if Path(arguments.init_from).exists() else arguments.init_from
rows: list[dict[str, Any]] = []
for count in arguments.counts:
    split = campaign.nested_split(len(frames), count, arguments.held_out, arguments.seed)
    held_out = [frames[index] for index in split.test]
    if not rows:  # what the potential says without any of these labels, its energies' constant fitted
        found = campaign.compare(rebuild(arguments.init_from), header["config"], held_out)
        found["energy_mae_meV"] = found["energy_aligned_mae_meV"]
        rows.append({"series": AS_IT_IS, "labelled_frames": "", **found})
    for series, learning_rate in (("scratch", 0.01), ("fine-tuned", arguments.learning_rate)):
        folder = arguments.output / f"{series}_{count}"
        start = place if series == "fine-tuned" else None
        settings = campaign.recipe(arguments.data, split, arguments, model, learning_rate, start)
        campaign.train(folder, settings, split)
        found = campaign.measured(folder, "held_out", held_out) | campaign.cost(folder)
        rows.append({"series": series, "labelled_frames": count, **found})
        campaign.show(
            arguments.output / "fine_tuning.png",
            rows,
            {
                "scratch": (plots.VERMILION, "from scratch"),
                "fine-tuned": (plots.BLUE, f"from {Path(arguments.init_from).name.split('.')[0]}"),
                AS_IT_IS: (plots.GREY, "as it is, energies aligned"),
            },
            f"{arguments.data.stem}: {arguments.steps} steps of the optimiser each",
        )
campaign.print_table(rows)
