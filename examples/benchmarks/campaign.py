"""Trainings one after the other, each in a separate process: finished runs are kept, stopped runs resumed.

OUTPUT/<name>/recipe.toml, split.json   input of `eqff train`
OUTPUT/<name>/run/                      its run folder, log.txt beside it
OUTPUT/<name>/cost.json                 CPU minutes of all sittings, peak memory, whether it is finished
OUTPUT/<name>/<label>.json              errors on held-out frames, measured once
"""

import argparse
import csv
import json
import math
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import nn

from eqff.config import overridden
from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset, make_loader, to_structure
from eqff.data.splits import Split, split_from_indices
from eqff.report import plots
from eqff.tasks.metrics import error_metrics
from eqff.training.fit.losses import errors, labels_of
from eqff.training.folder.trained import load_run

BATCH_SIZE = 5
N_VALIDATIONS = 10  # of a run
MEGABYTE = 1e6 if sys.platform == "darwin" else 1e3  # in units of ru_maxrss
MODEL = {
    "family": "nequip",
    "r_max": 5.0,
    "l_max": 2,
    "n_layers": 3,
    "n_channels": 32,
    "radial_hidden": [64, 64],
}
TRAINING = {
    "batch_size": BATCH_SIZE,
    "optimizer": "soap",
    "learning_rate": 0.01,
    "final_learning_rate": 1e-6,
    "ema_decay": 0.999,
    "checkpoint_minutes": 2.0,
    "export_best": False,
    "report": False,
    "threads": 1,
    "loss": {
        "kind": "huber",
        "huber_delta": 0.01,
        "forces": 1.0,
        "energy_per_atom": 1.0,
        "final_energy_per_atom": 100.0,
    },
}
Row = dict[str, Any]


def parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """Options that every campaign has."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("-o", "--output", type=Path, required=True, help="folder of runs, tables and pictures")
    found.add_argument("--steps", type=int, default=steps, help="of the optimiser, the same for every run")
    found.add_argument("--seed", type=int, default=0, help="of splits and weights")
    found.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of every recipe, e.g. training.compile=true"
    )
    return found


def nested_split(n_frames: int, n_labelled: int, n_held_out: int, seed: int) -> Split:
    """The first n_labelled of a random order, of which one in twenty (at least 5) validates; the end is held out.

    Fewer labelled frames are always a part of more, and the held-out frames are the same for all.
    """
    if n_labelled + n_held_out > n_frames:
        sys.exit(f"{n_labelled} labelled and {n_held_out} held-out frames: there are only {n_frames}")
    order = np.random.default_rng(seed).permutation(n_frames)
    n_validation = max(5, n_labelled // 20)
    labelled, held_out = order[:n_labelled], order[n_frames - n_held_out :]
    return split_from_indices(
        n_frames,
        train=labelled[n_validation:].tolist(),
        validation=labelled[:n_validation].tolist(),
        test=held_out.tolist(),
    )


def recipe(
    data: Path,
    split: Split,
    arguments: argparse.Namespace,
    model: Mapping[str, Any],
    learning_rate: float = 0.01,
    init_from: str | None = None,
) -> Row:
    """A recipe of `eqff train` with so many epochs that the optimiser makes `--steps` steps or a few more.

    Args: data: file with all frames; arguments: of `parser`, with `energy_unit` where the file needs one;
          model: fields of [model] that differ from MODEL
    """
    steps_per_epoch = math.ceil(len(split.train) / BATCH_SIZE)
    epochs = math.ceil(arguments.steps / steps_per_epoch)
    told: Row = {"train": str(data.resolve()), "split": "split.json"}
    told |= {"n_train": len(split.train), "n_validation": len(split.validation)}
    if getattr(arguments, "energy_unit", None):
        told["energy_unit"] = arguments.energy_unit
    schedule = {
        "epochs": epochs,
        "validate_every": max(1, epochs // N_VALIDATIONS),
        "checkpoint_every": max(1, epochs // N_VALIDATIONS),
        "warmup_steps": min(300, arguments.steps // 10),
        "learning_rate": learning_rate,
        "seed": arguments.seed,
    }
    found: Row = {"data": told, "model": MODEL | dict(model), "training": TRAINING | schedule}
    found |= {} if init_from is None else {"init_from": init_from}
    return overridden(found, arguments.set)


def train(folder: Path, settings: Row, split: Split) -> None:
    """Start, resume or skip one training; its weights and what it cost are in the folder afterwards."""
    told = folder / "recipe.toml"
    if told.is_file() and tomllib.loads(told.read_text(encoding="utf-8")) != json.loads(json.dumps(settings)):
        sys.exit(f"{told} has other settings than asked for now; choose another --output")
    cost = read_json(folder / "cost.json")
    if cost.get("finished"):
        return
    run = folder / "run"
    resume = (run / "config.toml").is_file()
    folder.mkdir(parents=True, exist_ok=True)
    told.write_text(tomli_w.dumps(settings), encoding="utf-8")
    split.save(folder / "split.json")
    print(f"{folder.name}: {'resumed' if resume else 'started'}", flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "eqff", "train", str(told), "-o", str(run)]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        code, seconds, peak = waited(command + ["--resume"] * resume, log)
    cost = {
        "finished": code == 0,
        "cpu_minutes": cost.get("cpu_minutes", 0.0) + seconds / 60.0,
        "peak_memory_MB": max(cost.get("peak_memory_MB", 0.0), peak),
    }
    (folder / "cost.json").write_text(json.dumps(cost, indent=2) + "\n", encoding="utf-8")
    if code:
        sys.exit(f"{folder.name} ended with code {code}, see {folder / 'log.txt'}; the same command goes on with it")


def waited(command: Sequence[str], log: Any) -> tuple[int, float, float]:
    """(exit code, CPU seconds, peak memory in MB) of a child and what it started."""
    child = subprocess.Popen(command, stdout=log, stderr=log)
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        while True:
            try:
                _, status, usage = os.wait4(child.pid, 0)
                break
            except KeyboardInterrupt:  # the child has it too, writes its checkpoint and ends
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MEGABYTE


@torch.no_grad()
def compare(model: nn.Module, config: Mapping[str, Any], frames: Sequence[Frame]) -> dict[str, float]:
    """Errors of a model on labelled frames: MAE and RMSE of energies (meV) and force components (meV/Å).

    energy_aligned: with the mean error of the energies taken off, as if their constant were fitted to these frames.
    """
    dataset = FrameDataset(frames, tuple(config["species"]), config["r_max"])
    energy, forces = [], []
    for batch in make_loader(dataset, batch_size=10 * BATCH_SIZE):
        found = errors(model, to_structure(batch), labels_of(batch, stress=False), create_graph=False)
        energy.append(found.energy)
        forces.append(found.forces.reshape(-1))
    energy_error, force_error = torch.cat(energy).numpy(), torch.cat(forces).numpy()
    aligned = energy_error - energy_error.mean()
    return {
        **_sizes("forces", force_error, "meV_A"),
        **_sizes("energy", energy_error, "meV"),
        "energy_aligned_mae_meV": 1e3 * float(np.abs(aligned).mean()),
        "n_frames": len(frames),
    }


def _sizes(name: str, error: np.ndarray, unit: str) -> dict[str, float]:
    found = error_metrics(name, np.zeros_like(error), error)
    return {key: found[key] for key in (f"{name}_mae_{unit}", f"{name}_rmse_{unit}")}


def measured(folder: Path, label: str, frames: Sequence[Frame]) -> dict[str, float]:
    """Errors of a finished run on frames it has not seen; measured once and kept."""
    kept = folder / f"{label}.json"
    if not kept.is_file():
        run = load_run(folder / "run")
        kept.write_text(json.dumps(compare(run.model, run.config, frames), indent=2) + "\n", encoding="utf-8")
    return read_json(kept)


def read_json(path: Path) -> Row:
    """Its content, empty if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def cost(folder: Path) -> Row:
    """CPU minutes and peak memory of a run."""
    found = read_json(folder / "cost.json")
    return {key: found[key] for key in ("cpu_minutes", "peak_memory_MB")} if found else {}


def slope(counts: Sequence[float], values: Sequence[float]) -> float:
    """Of log value against log count, least squares; NaN for fewer than two points."""
    if len(counts) < 2:
        return math.nan
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All rows, replaced as a whole."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns(rows))
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)


def print_table(rows: Sequence[Row]) -> None:
    """The same for people, in markdown."""
    columns = _columns(rows)
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(_short(row.get(name, "")) for name in columns) + " |")


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(path: Path, rows: Sequence[Row], series: Mapping[str, tuple[str, str]], title: str) -> None:
    """The picture of `draw_curves`, and all rows as table.csv beside it."""
    write_csv(path.with_name("table.csv"), rows)
    draw_curves(path, rows, series, title)


def draw_curves(path: Path, rows: Sequence[Row], series: Mapping[str, tuple[str, str]], title: str) -> None:
    """Force and energy errors against the number of labelled frames, on logarithmic axes, with slopes.

    Args: rows: with `series`, `labelled_frames`, `forces_mae_meV_A` and `energy_mae_meV`; a row without
          labelled_frames is drawn as a level; series: name -> (colour, text)
    """
    figure = plots._figure(8.6, 4.2)
    panels = (("forces_mae_meV_A", "force MAE (meV/Å)"), ("energy_mae_meV", "energy MAE (meV)"))
    for axes, (column, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for name, (colour, text) in series.items():
            own = [row for row in rows if row["series"] == name]
            points = [(row["labelled_frames"], row[column]) for row in own if row.get("labelled_frames")]
            if points:
                counts, values = zip(*sorted(points), strict=True)
                legend = f"{text}, slope {slope(counts, values):.2f}" if len(points) > 1 else text
                axes.plot(counts, values, "o-", color=colour, linewidth=1.2, markersize=5, label=legend)
            elif own:
                axes.axhline(own[0][column], color=colour, linestyle="--", linewidth=1.0, label=text)
        axes.set(xscale="log", yscale="log", xlabel="labelled frames", ylabel=label)
        ticks = sorted({row["labelled_frames"] for row in rows if row.get("labelled_frames")})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        plots._plain_ticks(axes)
        axes.legend(frameon=False, fontsize=8)
    plots._finish(figure, path, title)
