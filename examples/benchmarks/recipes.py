"""Variations of a training, each for the same CPU time or the same epochs, side by side on validation frames.

python examples/benchmarks/recipes.py rmd17_ethanol_train_01.npz --set preset=fast data.energy_unit=kcal/mol
    --variations examples/benchmarks/recipes.toml --minutes 6 -o runs/recipes

The first argument is what `eqff train` takes, a recipe or labelled frames; --set holds for all. VARIATIONS is a TOML
file of names and what each sets, `name = ["key=value", ...]`. With --minutes, the first steps of a variation are timed
and it gets as many epochs as fit into this CPU time, its schedule annealed to their end; compiling is not counted. Each
runs in a separate process; runs in the output folder are not repeated, and a stopped run continues. Errors
are those of the averaged weights at the end, on validation frames: no test frame is read here.
"""

import argparse
import json
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from eqff.config import read_toml
from eqff.errors import EqffError
from eqff.training.estimate import estimate
from eqff.training.folder.metrics_file import read_metrics
from eqff.training.folder.trained import load_run
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

ALWAYS = ["training.export_best=false", "training.report=false"]
HEAD = (
    "| variation | sets | parameters | steps | CPU minutes | force MAE (meV/Å) | energy MAE (meV) |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def epochs_that_fit(source: Path, overrides: list[str], minutes: float) -> int:
    """Epochs of a CPU time, by the first steps; validations come on top."""
    found = estimate(read_config(source, overrides))
    return max(1, round(60.0 * minutes / (found.n_batches * found.step_cpu_s)))


def run_one(name: str, source: Path, overrides: list[str], output: Path, minutes: float, epochs: int) -> dict[str, Any]:
    """Train one variation; its row of the table, written to OUTPUT/NAME.json too."""
    record, folder = output / f"{name}.json", output / name
    if record.is_file():
        return json.loads(record.read_text(encoding="utf-8"))
    overrides = [*overrides, *ALWAYS]
    resumed = (folder / "config.toml").is_file()
    if resumed:
        epochs = read_toml(folder / "config.toml")["training"]["epochs"]
    elif not epochs:
        epochs = epochs_that_fit(source, overrides, minutes)
    before = time.process_time()
    train(source, folder, resume=resumed, overrides=[*overrides, f"training.epochs={epochs}", "training.steps=0"])
    last = read_metrics(folder / "metrics.csv")[-1]
    row = {
        "variation": name,
        "parameters": sum(p.numel() for p in load_run(folder).model.parameters() if p.requires_grad),
        "steps": int(last["step"]),
        "cpu_minutes": None if resumed else (time.process_time() - before) / 60.0,
        "forces_mae_meV_A": last["forces_mae_meV_A"],
        "energy_mae_meV": last["energy_mae_meV"],
    }
    record.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def line(row: dict[str, Any], sets: list[str]) -> str:
    """One line of the table."""
    shown = " ".join(f"`{each}`" for each in sets)
    if "failed" in row:
        return f"| {row['variation']} | {shown} | failed: {row['failed']} | | | | |"
    minutes = "resumed" if row["cpu_minutes"] is None else f"{row['cpu_minutes']:.1f}"
    return (
        f"| {row['variation']} | {shown} | {row['parameters']:,} | {row['steps']:,} | {minutes} "
        f"| {row['forces_mae_meV_A']:.2f} | {row['energy_mae_meV']:.2f} |"
    )


def in_own_process(*arguments: Any) -> dict[str, Any]:
    """run_one in a fresh process; what it refuses becomes a row."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(run_one, *arguments).result()
        except EqffError as error:
            return {"variation": arguments[0], "failed": str(error)}


def main() -> None:
    """Run what is asked for; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="recipe (.toml) or labelled frames")
    parser.add_argument("--variations", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the variations")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="common", help="for all of them")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, default=0.0, help="of CPU time for each")
    budget.add_argument("--epochs", type=int, default=0, help="of each")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    variations = tomllib.loads(arguments.variations.read_text(encoding="utf-8"))
    unknown = sorted(set(arguments.only or []) - variations.keys())
    if unknown:
        parser.error(f"--only {' '.join(unknown)}: variations are {', '.join(variations)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = [HEAD]
    print(HEAD, flush=True)
    for name in arguments.only or variations:
        overrides = [*arguments.common, *variations[name]]
        row = in_own_process(name, arguments.source, overrides, arguments.output, arguments.minutes, arguments.epochs)
        lines.append(line(row, variations[name]))
        print(lines[-1], flush=True)
        (arguments.output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
