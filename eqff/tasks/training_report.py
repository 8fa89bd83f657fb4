"""report.html in a run folder: errors of the best model on validation frames, and what the run recorded."""

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eqff import __version__, artifact
from eqff.config import read_toml
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.data.splits import load_split
from eqff.errors import ConfigError
from eqff.report.errors import plot_errors, plot_parity
from eqff.report.plots import plot_learning_curve
from eqff.report.training import training_page, write_training_page
from eqff.tasks.evaluate import evaluate
from eqff.training.estimate import memory_text, peak_memory
from eqff.training.folder.metrics_file import read_metrics
from eqff.training.folder.run_file import CONFIG, FORGOTTEN, PLAN
from eqff.training.folder.trained import read_record

PACKAGES = ("torch", "numpy", "lightning", "e3nn")


def training_report(folder: str | Path) -> Path:
    """Write report.html of a run that has exported its best model.

    Args:    folder: of the run, with best.eqff.pt
    Returns: path of the page
    Raises:  ConfigError if the run has no best.eqff.pt or no validation yet; as reading its data
    """
    folder, peak = Path(folder), peak_memory()
    potential_file, rows = folder / "best.eqff.pt", read_metrics(folder / "metrics.csv")
    if not potential_file.is_file() or not rows:
        raise ConfigError("EQ1411", f"{folder}: no best.eqff.pt and metrics.csv; set training.export_best = true")
    config, record = read_toml(folder / CONFIG), read_record(folder)
    decided = json.loads((folder / PLAN).read_text(encoding="utf-8"))["decided"]
    names = [name for name in config["data"] if name.endswith(("_unit", "_key", "_order", "types"))]
    options = ReadOptions(**{name: config["data"].get(name) for name in names})
    source = Source(config["data"]["train"], options)
    validation = load_split(folder / "split.json").validation
    potential = artifact.load(potential_file, accelerate="off")
    found = evaluate(potential, [source.frames[index] for index in validation], "validation")
    worst = [row | {"frame": int(validation[row["frame"]])} for row in found.worst_forces]  # row of the file
    name = folder.resolve().name
    with tempfile.TemporaryDirectory() as place:
        pictures = {name: Path(place) / f"{name}.png" for name in ("learning curve", "parity", "errors")}
        plot_learning_curve(pictures["learning curve"], rows, name)
        plot_parity(pictures["parity"], found.values, name)
        plot_errors(pictures["errors"], found.values, found.by_element, found.by_force, name)
        drawn = {f"{caption}, validation frames": path.read_bytes() for caption, path in pictures.items()}
    parameters = sum(parameter.numel() for parameter in potential.module.parameters())
    facts: dict[str, dict[str, Any]] = {
        "Data": record["data"],
        "Model": {"family": record["family"], "weights": parameters} | record["config"],
        "Training": _flat(config["training"])
        | {key.removeprefix("training."): value for key, value in decided.items() if key.startswith("training.")},
        "Environment": {"eqff": __version__}
        | {name: version(name) for name in PACKAGES}
        | {"Python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
        | {"peak memory of this process": memory_text(peak)},
    }
    if (folder / FORGOTTEN).is_file():
        facts["Foreign frames"] = json.loads((folder / FORGOTTEN).read_text(encoding="utf-8"))
    path = folder / "report.html"
    write_training_page(path, training_page(f"Training of {name}", rows, found.metrics, worst, drawn, facts))
    return path


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
