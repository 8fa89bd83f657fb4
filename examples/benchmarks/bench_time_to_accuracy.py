"""Force error against wall minutes: eqff and nequip (eager and compiled) train on the same frames and the same cores.

python examples/benchmarks/bench_time_to_accuracy.py rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz
    --energy-unit kcal/mol --recipe RECIPE.toml --output RESULTS --cores 2 --minutes 30 [--peers .peers]

Each side first trains a few epochs to learn what an epoch costs; then the real run gets as many epochs as fit into the
time, its schedule annealed to their end. Time counts from the start of the process, imports and compiling included;
Inductor's cache starts empty. The curves are validation errors of averaged weights as each side reports them; the last
number is that of the best validated weights on the test frames, outside of the time. RECIPE is a recipe of `eqff train`
whose epochs, data and threads are replaced. nequip: l_max 2, natural parity, 32 features, 3 layers, r_max 5 Å, batches
of 5, Adam 0.01 -> 1e-5 by a cosine, EMA 0.998, energy per atom and forces 1:1 (its configuration is written to OUTPUT).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sides
import tomli_w
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import eqff
from eqff.data.frame import Frame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.data.splits import random_split
from eqff.errors import EqffError
from eqff.training.folder.metrics_file import read_metrics

POLL = 0.5  # s
MARGIN = 0.98  # of the time is planned
BATCH_SIZE = 5
COLOURS = {"eqff": "#0072B2", "nequip eager": "#D55E00", "nequip compile": "#E69F00"}
Curve = list[dict[str, float]]


def nequip_config(files: dict[str, str], species: list[str], n_epochs: int, mode: str, tests: bool) -> dict[str, Any]:
    """What nequip-train reads; `tests`: with a test of the best weights at the end."""
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": BATCH_SIZE}
    metrics = {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"total_energy_mae": None, "forces_mae": 1.0}}
    callback = {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
        "dirpath": "checkpoints",
        "filename": "best",
        "monitor": "val0_epoch/forces_mae",
    }
    return {
        "run": ["train", "test"] if tests else ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 0,
            **{f"{part}_file_path": path for part, path in files.items()},
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": species},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": 5.0},
            ],
            "train_dataloader": loader | {"shuffle": True},
            "val_dataloader": loader | {"batch_size": 20},
            "test_dataloader": loader | {"batch_size": 20},
            "stats_manager": {
                "_target_": "nequip.data.CommonDataStatisticsManager",
                "type_names": species,
                "dataloader_kwargs": {"batch_size": 50},
            },
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": n_epochs,
            "enable_progress_bar": False,
            "callbacks": [callback],
            "logger": {
                "_target_": "lightning.pytorch.loggers.CSVLogger",
                "save_dir": ".",
                "name": "log",
                "version": "",
            },
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            "ema_decay": 0.998,
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss",
                "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": metrics,
            "test_metrics": metrics,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "lr_scheduler": {
                "scheduler": {
                    "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
                    "T_max": n_epochs,
                    "eta_min": 1e-5,
                },
                "interval": "epoch",
                "frequency": 1,
            },
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                "compile_mode": mode,
                "seed": 0,
                "model_dtype": "float32",
                "type_names": species,
                "r_max": 5.0,
                "num_layers": 3,
                "l_max": 2,
                "parity": False,
                "num_features": 32,
                "radial_mlp_depth": 2,
                "radial_mlp_width": 64,
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:forces_rms}",
                "per_type_energy_shifts": "${training_data_stats:per_atom_energy_mean}",
            },
        },
    }


def run_nequip(
    folder: Path, n_epochs: int, mode: str, tests: bool, data: dict[str, Any], arguments: argparse.Namespace
) -> Curve:
    """One run of nequip-train."""
    config = nequip_config(data["files"], data["species"], n_epochs, mode, tests)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    tool = sides.peer_python(arguments.peers, "nequip").with_name("nequip-train")
    command = [str(tool), "-cd", ".", "-cn", "config.yaml", "hydra.run.dir=."]
    return watched(command, folder, lambda: nequip_rows(folder / "log" / "metrics.csv"))


def nequip_rows(path: Path) -> Curve:
    """Validation rows of Lightning's metrics.csv, eV to meV."""
    rows = []
    for row in read_csv(path):
        if row.get("val0_epoch/forces_mae"):
            forces, energy = row["val0_epoch/forces_mae"], row["val0_epoch/total_energy_mae"]
            epoch = 1.0 + float(row["epoch"])
            rows.append(
                {"epoch": epoch, "forces_mae_meV_A": 1e3 * float(forces), "energy_mae_meV": 1e3 * float(energy)}
            )
    return rows


def read_csv(path: Path) -> list[dict[str, str]]:
    """All rows; none while the file is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_eqff(folder: Path, n_epochs: int, validate_every: int, arguments: argparse.Namespace) -> Curve:
    """One run of eqff train."""
    recipe = tomllib.loads(arguments.recipe.read_text(encoding="utf-8"))
    recipe["data"] |= {"train": str(arguments.train.resolve()), "split_seed": arguments.split_seed}
    recipe["data"] |= {"n_train": arguments.n_train, "n_validation": arguments.n_validation}
    recipe["data"] |= {"energy_unit": arguments.energy_unit} if arguments.energy_unit else {}
    recipe["training"] |= {"epochs": n_epochs, "validate_every": validate_every, "threads": arguments.cores}
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "eqff", "train", "recipe.toml", "-o", "run"]
    return watched(command, folder, lambda: [dict(row) for row in read_metrics(folder / "run" / "metrics.csv")])


def watched(command: list[str], folder: Path, rows_now: Callable[[], Curve]) -> Curve:
    """Run a training; every validation gets the wall minutes since the start of the process."""
    curve: Curve = []
    with (folder / "log.txt").open("w", encoding="utf-8") as log, tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "XDG_CACHE_HOME": cache}
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                time.sleep(POLL)
                minutes = (time.monotonic() - began) / 60.0
                curve += [row | {"minutes": minutes} for row in rows_now()[len(curve) :]]
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    curve += [row | {"minutes": (time.monotonic() - began) / 60.0} for row in rows_now()[len(curve) :]]
    if process.returncode or not curve:
        sys.exit(f"{Path(command[0]).name} failed, see {folder / 'log.txt'}")
    return curve


def planned_epochs(curve: Curve, minutes: float) -> int:
    """Epochs that fit, from the first validation (start, compiling, first epoch) and what an epoch cost after it."""
    first = curve[0]["minutes"]
    cost = (curve[-1]["minutes"] - first) / (curve[-1]["epoch"] - curve[0]["epoch"])
    return max(1, int((MARGIN * minutes - first) / cost) + 1)


def test_eqff(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Errors of the best weights on the test frames."""
    potential, result = folder / "best.eqff.pt", folder / "test.json"
    potential.unlink(missing_ok=True)
    accuracy = [Path(__file__).parent / "accuracy.py", potential, arguments.test, "--json", result]
    accuracy += ["--energy-unit", arguments.energy_unit] if arguments.energy_unit else []
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        for arguments_of in (["-m", "eqff", "export", folder / "run", "-o", potential], accuracy):
            command = [sys.executable, "-W", "ignore", *map(str, arguments_of)]
            subprocess.run(command, stdout=log, stderr=log, check=True)
    found = json.loads(result.read_text(encoding="utf-8"))["test"]
    return {key: found[key] for key in ("forces_mae_meV_A", "energy_mae_meV")}


def test_nequip(folder: Path) -> dict[str, float]:
    """What nequip's own test run found."""
    row = next(row for row in read_csv(folder / "log" / "metrics.csv") if row.get("test0_epoch/forces_mae"))
    forces, energy = float(row["test0_epoch/forces_mae"]), float(row["test0_epoch/total_energy_mae"])
    return {"forces_mae_meV_A": 1e3 * forces, "energy_mae_meV": 1e3 * energy}


def prepare_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """nequip's files: the frames of eqff's split as extended XYZ in eV."""
    options = ReadOptions(energy_unit=arguments.energy_unit)
    frames = Source(arguments.train, options).frames
    split = random_split(len(frames), arguments.n_train, arguments.n_validation, seed=arguments.split_seed)
    parts = {
        "train": [frames[i] for i in split.train],
        "val": [frames[i] for i in split.validation],
        "test": list(Source(arguments.test, options).frames),
    }
    files = {}
    for part, chosen in parts.items():
        files[part] = str((arguments.output / f"{part}.extxyz").resolve())
        write(files[part], [to_ase(frame) for frame in chosen])
    present = {symbol for frame in parts["train"] for symbol in to_ase(frame).get_chemical_symbols()}
    return {"files": files, "species": sorted(present)}


def to_ase(frame: Frame) -> Atoms:
    """With labels, as ASE writes them."""
    atoms = Atoms(frame.atomic_numbers, frame.positions)
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=np.asarray(frame.forces))
    return atoms


def plot(path: Path, runs: dict[str, dict[str, Any]], bar: float) -> None:
    """Validation curves, and test errors as dots at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, run in runs.items():
        minutes, error = zip(*[(row["minutes"], row["forces_mae_meV_A"]) for row in run["curve"]], strict=True)
        test = run["test"]["forces_mae_meV_A"]
        axes.plot(minutes, error, color=COLOURS[name], linewidth=1.2, label=f"{name}: {test:.1f} meV/Å on test frames")
        axes.plot(minutes[-1], test, "o", color=COLOURS[name])
    axes.axhline(bar, color="#555555", linestyle="--", linewidth=1.0)
    axes.set(yscale="log", xlabel="wall time (minutes)", ylabel="force MAE (meV/Å): line validation, dot test")
    axes.set_xlim(left=0.0)
    sides.plain_ticks(axes.yaxis)
    axes.grid(True, which="both", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def write_results(arguments: argparse.Namespace, runs: dict[str, dict[str, Any]]) -> None:
    """table.md, results.json and the plot, complete after every run."""
    about: dict[str, Any] = {
        "machine": sides.machine(),
        "load": os.getloadavg(),
        "options": vars(arguments),
        "eqff": eqff.__version__,
    }
    record = json.dumps({**about, "runs": runs}, indent=1, default=str)
    (arguments.output / "results.json").write_text(record + "\n", encoding="utf-8")
    marks = [minutes for minutes in (5, 10, 15, 20, 30, 45, 60) if minutes <= 1.05 * arguments.minutes]
    head = ["side", "epochs", "minutes", *[f"validation at {mark} min" for mark in marks], "test forces", "test energy"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, run in runs.items():
        cells = [name, f"{run['curve'][-1]['epoch']:.0f}", f"{run['curve'][-1]['minutes']:.1f}"]
        for mark in marks:
            before = [row["forces_mae_meV_A"] for row in run["curve"] if row["minutes"] <= 1.02 * mark]
            cells.append(f"{before[-1]:.1f}" if before else "")
        cells += [f"{run['test']['forces_mae_meV_A']:.2f}", f"{run['test']['energy_mae_meV']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    text = (
        f"{about['machine']['processor']}, {arguments.cores} cores; forces meV/Å, energy meV, mean absolute errors.\n"
    )
    (arguments.output / "table.md").write_text(text + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    plot(arguments.output / "time_to_accuracy.png", runs, arguments.bar)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="frames to train and validate on")
    parser.add_argument("test", type=Path, help="frames to test on")
    parser.add_argument("--energy-unit", help="of both files, where they do not state it")
    parser.add_argument("--recipe", type=Path, required=True, help="of eqff train, TOML")
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="folder with the peers' environments")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=list(COLOURS), choices=list(COLOURS))
    parser.add_argument("--n-train", type=int, default=950)
    parser.add_argument("--n-validation", type=int, default=50)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--validate-every", type=int, default=5, help="epochs between eqff's validations")
    parser.add_argument("--calibration-epochs", type=int, default=4)
    parser.add_argument("--bar", type=float, default=6.0, help="meV/Å, a line in the plot")
    parser.add_argument("--force", action="store_true", help="overwrite results in OUTPUT")
    arguments = parser.parse_args()
    sides.prepare_output(arguments.output, arguments.force)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])  # the children inherit it
    os.environ.update(sides.eqff_environment(arguments.cores))
    data = prepare_data(arguments)
    runs: dict[str, dict[str, Any]] = {}
    for name in arguments.sides:
        if name != "eqff" and not sides.peer_python(arguments.peers, "nequip").exists():
            print(
                f"{name}: skipped, no nequip in {arguments.peers}; make it with peers/make_environments.sh", flush=True
            )
            continue

        def train(stage: str, n_epochs: int, validate_every: int, name: str = name) -> tuple[Path, Curve]:
            folder = arguments.output / f"{name.replace(' ', '-')}-{stage}-{time.strftime('%Y%m%d-%H%M%S')}"
            folder.mkdir()
            if name == "eqff":
                return folder, run_eqff(folder, n_epochs, validate_every, arguments)
            return folder, run_nequip(folder, n_epochs, name.split()[1], stage == "run", data, arguments)

        _, trial = train("calibration", arguments.calibration_epochs, 1)
        n_epochs = planned_epochs(trial, arguments.minutes)
        every = min(arguments.validate_every, n_epochs) if name == "eqff" else 1
        n_epochs -= n_epochs % every  # the last epoch is validated
        print(f"{name}: first epoch after {60 * trial[0]['minutes']:.0f} s, {n_epochs} epochs planned", flush=True)
        folder, curve = train("run", n_epochs, every)
        test = test_eqff(folder, arguments) if name == "eqff" else test_nequip(folder)
        runs[name] = {"curve": curve, "test": test, "folder": folder.name}
        print(f"{name}: {curve[-1]['minutes']:.1f} min, test {test['forces_mae_meV_A']:.2f} meV/Å", flush=True)
        write_results(arguments, runs)
    if runs:
        print((arguments.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except EqffError as error:
        sys.exit(str(error))
