"""Force error of the shipped potentials against wall hours of training, one line each.

python examples/benchmarks/training_time.py -o bench/training_time [--potentials potentials]

Lines are errors on validation frames as each training wrote them (metrics.csv of the potential), dots at their ends the
error on the test frames (metrics.json). The hours are those of the machine's clock from the first training step on,
on cores that other jobs shared; reading data and what a stopped run did after its last validation are not in them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from eqff.report import plots
from eqff.training.folder.metrics_file import read_metrics

COLOURS = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.SKY, plots.PURPLE, plots.GREY)
DASHES = ("-", "--", ":")
MARKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # hours
TICKS = (0.02, 0.05, *MARKS)


def read(folder: Path) -> dict[str, Any] | None:
    """Hours and errors of one potential, None for a folder without a training."""
    if not (folder / "metrics.csv").is_file():
        return None
    rows = read_metrics(folder / "metrics.csv")
    tested = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]
    return {
        "name": folder.name,
        "hours": [row["time_s"] / 3600.0 for row in rows],
        "validation": [row["forces_mae_meV_A"] for row in rows],
        "test": float(tested["forces_mae_meV_A"]),
    }


def draw(path: Path, runs: list[dict[str, Any]]) -> None:
    """All of them, on logarithmic axes."""
    figure = plots._figure(8.6, 5.2)
    axes = figure.subplots()
    for k, run in enumerate(runs):
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % len(DASHES)]
        label = f"{run['name']}: {run['test']:.3g}"
        axes.plot(run["hours"], run["validation"], dash, color=colour, linewidth=1.2, label=label)
        axes.plot(run["hours"][-1], run["test"], "o", color=colour, markersize=5)
    axes.set(xscale="log", yscale="log", xlabel="wall time (hours)")
    axes.set_ylabel("force MAE (meV/Å): line validation, dot test")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_xlim(0.01, 1.2 * max(run["hours"][-1] for run in runs))
    plots._plain_ticks(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    plots._finish(figure, path, "")


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: the last validation error before each mark."""
    marks = [mark for mark in MARKS if mark < max(run["hours"][-1] for run in runs)]
    head = [
        "force MAE meV/Å",
        "hours",
        *[f"validation at {mark:g} h" for mark in marks],
        "at the end",
        "test",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for run in runs:
        cells = [run["name"], f"{run['hours'][-1]:.2f}"]
        for mark in marks:
            before = [error for hours, error in zip(run["hours"], run["validation"], strict=True) if hours <= mark]
            cells.append(f"{before[-1]:.2f}" if before and run["hours"][-1] > mark else "")
        cells += [f"{run['validation'][-1]:.2f}", f"{run['test']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the picture and the table")
    parser.add_argument("--potentials", type=Path, default=Path(__file__).parents[2] / "potentials")
    arguments = parser.parse_args()
    runs = [run for folder in sorted(arguments.potentials.iterdir()) if (run := read(folder))]
    if not runs:
        sys.exit(f"{arguments.potentials}: no potential with metrics.csv there")
    arguments.output.mkdir(parents=True, exist_ok=True)
    draw(arguments.output / "training_time.png", runs)
    (arguments.output / "training_time.md").write_text(table(runs), encoding="utf-8")
    print(table(runs), end="")


if __name__ == "__main__":
    main()
