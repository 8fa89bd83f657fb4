"""3BPA: trained on frames of 300 K, tested at 300, 600 and 1200 K (Kovács et al., J. Chem. Theory Comput. 17, 2021).

python examples/benchmarks/extrapolation_3bpa.py train_300K.xyz train_mixedT.xyz -o runs/3bpa [--steps 20000]

Of the 500 training frames 475 train and 25 choose the checkpoint. train_mixedT.xyz is tested on: a third of its frames
each at 300, 600 and 1200 K, in this order (their energies tell them apart), less those that are training frames, too:
31 of the 300 K ones. So it is not the papers' test set; their figures stand beside for the order of magnitude. A
stopped run continues. Writes table.csv and 3bpa.png: RMSE of energies (meV) and of force components (meV/Å).
"""

from pathlib import Path
from typing import Any

import campaign
import numpy as np

from eqff.data.reading.read import read_frames
from eqff.report import plots

TEMPERATURES = (300, 600, 1200)  # K
PUBLISHED = {  # RMSE of energies and forces on the papers' test sets, 500 training frames; from memory, not checked
    "NequIP (l_max 3)": ((3.3, 10.8), (11.2, 26.4), (38.5, 76.2)),
    "Allegro": ((3.8, 13.0), (12.1, 29.2), (42.6, 83.0)),
    "MACE": ((3.0, 8.8), (9.7, 21.8), (29.8, 62.0)),
}
COLOURS = {"eqff": plots.BLUE, "NequIP (l_max 3)": plots.VERMILION, "Allegro": plots.GREEN, "MACE": plots.ORANGE}

parser = campaign.parser(__doc__, steps=20000)
parser.add_argument("train", type=Path)
parser.add_argument("mixed", type=Path)
parser.add_argument("--labelled", type=int, default=500, help="of the training file's frames")
arguments = parser.parse_args()

labelled = read_frames(arguments.train)
split = campaign.nested_split(len(labelled), arguments.labelled, 0, arguments.seed)
known = {frame.positions.tobytes() for frame in labelled}
thirds = np.array_split(np.arange(len(mixed := read_frames(arguments.mixed))), len(TEMPERATURES))

folder = arguments.output / f"run_{arguments.labelled}"
campaign.train(folder, campaign.recipe(arguments.train, split, arguments, {}), split)
rows = []
for number, (temperature, third) in enumerate(zip(TEMPERATURES, thirds, strict=True)):
    unseen = [mixed[index] for index in third if mixed[index].positions.tobytes() not in known]
    print(f"{temperature} K: {len(unseen)} frames, {len(third) - len(unseen)} left out as they are training frames")
    found = campaign.measured(folder, f"test_{temperature}K", unseen)
    pairs = {"eqff": (found["energy_rmse_meV"], found["forces_rmse_meV_A"])}
    pairs |= {f"{name}": figures[number] for name, figures in PUBLISHED.items()}
    for name, (energy, forces) in pairs.items():
        source = "measured" if name == "eqff" else "paper, from memory, other test set"
        row: dict[str, Any] = {"model": name, "source": source}
        row |= {"temperature_K": temperature, "energy_rmse_meV": energy, "forces_rmse_meV_A": forces}
        rows.append(row | ({"n_frames": len(unseen), **campaign.cost(folder)} if name == "eqff" else {}))
campaign.write_csv(arguments.output / "table.csv", rows)
campaign.print_table(rows)

figure = plots._figure(8.6, 4.2)
panels = (("forces_rmse_meV_A", "force RMSE (meV/Å)"), ("energy_rmse_meV", "energy RMSE (meV)"))
for axes, (column, label) in zip(figure.subplots(1, 2), panels, strict=True):
    for name, colour in COLOURS.items():
        values = [row[column] for row in rows if row["model"] == name]
        ours = name == "eqff"
        text = "eqff, measured" if ours else f"{name}, as published"
        style = {"linewidth": 1.6, "marker": "o"} if ours else {"linewidth": 0.9, "marker": "s", "linestyle": "--"}
        axes.plot(TEMPERATURES, values, color=colour, markersize=5, label=text, **style)
    axes.set(xscale="log", yscale="log", xlabel="temperature of the test frames (K)", ylabel=label)
    axes.set_xticks(TEMPERATURES, [str(one) for one in TEMPERATURES])
    axes.set_xticks([], minor=True)
    plots._plain_ticks(axes)
    axes.legend(frameon=False, fontsize=8)
plots._finish(figure, arguments.output / "3bpa.png", f"3BPA, {arguments.labelled} labelled frames of 300 K")
