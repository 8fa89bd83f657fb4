"""All model families on the same few frames: how fast each one learns, and what it costs.

Small models and few frames keep it at a minute: this shows how to switch families, not their accuracy.

python examples/06_compare_families.py [--epochs 60] [--n-train 200]
"""

import argparse
import json
import time
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eqff import registry
from eqff.training.folder.metrics_file import read_metrics
from eqff.training.folder.trained import load_run
from eqff.training.run import train

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--n-train", type=int, default=60)
arguments = parser.parse_args()

recipe = Path(__file__).parent / "data" / "ethanol_gfn2.toml"  # every family has r_max, l_max, n_layers and n_channels
own = {  # further fields of a small model of each family
    "equiformer": ["model.n_heads=2", "model.n_features=32", "model.n_basis=16", "model.radial_hidden=[16, 16]"],
    "escn": ["model.m_max=1", "model.n_hidden=16"],
}
common = [
    f"training.epochs={arguments.epochs}",
    f"data.n_train={arguments.n_train}",
    "data.n_validation=20",
    "model.n_channels=8",
    "training.batch_size=4",
    "training.warmup_steps=10",
    "training.validate_every=1",
    "training.ema_decay=0.9",
    "training.kernels=reference",  # nothing to compile first
    "training.export_best=false",
    "training.report=false",
]
figure = Figure(figsize=(6.5, 4.2), layout="constrained")
FigureCanvasAgg(figure)
axes = figure.subplots()
print("family           parameters   force MAE meV/Å   energy MAE meV      s")
for family in registry.names("models"):
    started = time.monotonic()
    run = Path("runs") / f"{family}-{int(time.time())}"
    train(recipe, run, overrides=[f"model.family={family}", *common, *own.get(family, [])])
    rows = read_metrics(run / "metrics.csv")
    n_parameters = sum(parameter.numel() for parameter in load_run(run).model.parameters())
    forces = [row["forces_mae_meV_A"] for row in rows]
    best = min(rows, key=lambda row: row["forces_mae_meV_A"])
    errors = f"{best['forces_mae_meV_A']:17.1f} {best['energy_mae_meV']:16.1f}"
    print(f"{family:16s} {n_parameters:10d} {errors} {time.monotonic() - started:6.1f}", flush=True)
    axes.plot([row["epoch"] for row in rows], forces, marker="." if len(rows) < 30 else "", label=family)

axes.set_yscale("log")
axes.xaxis.set_major_locator(MaxNLocator(integer=True))
for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
    ticks("{x:g}")
axes.set_xlabel("epoch")
axes.set_ylabel("force MAE on validation frames (meV/Å)")
axes.grid(True, which="both", color="#dddddd", linewidth=0.6)
axes.legend(frameon=False)
level = json.loads((run / "model.json").read_text(encoding="utf-8"))["data"]["level_of_theory"]
axes.set_title(f"ethanol, {arguments.n_train} frames, {level}", fontsize=10)
figure.savefig("compare_families.png", dpi=150)
print(f"learning curves of {len(registry.names('models'))} families in compare_families.png")
