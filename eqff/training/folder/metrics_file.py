"""metrics.csv of a run: one row per validation."""

import csv
import math
from pathlib import Path

from eqff.training.folder.run_file import run_file

COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "validation_loss",
    "forces_mae_meV_A",
    "energy_mae_meV",
    "stress_mae_GPa",
    "learning_rate",
    "time_s",
)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.csv; an empty list if the file does not exist yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def best_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """The row with the lowest force error, NaN last; {} without rows."""
    return min(rows, key=lambda row: (math.isnan(row["forces_mae_meV_A"]), row["forces_mae_meV_A"]), default={})


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace the file by one with these rows; a column with nothing but NaN is left out.

    Raises: ResourceError EQ6130
    """
    columns = [name for name in COLUMNS if any(not math.isnan(row.get(name, math.nan)) for row in rows)]
    with run_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
