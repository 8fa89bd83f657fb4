"""metrics.csv of a run: one row per validation."""

import csv
import math
from collections.abc import Mapping, Sequence
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
NO_FORCE = 0.01  # meV/Å, rounding of float32


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics.csv; an empty list if the file does not exist yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def score(row: Mapping[str, float]) -> tuple[float, float]:
    """By which rows are compared, the lowest is best: the force error, then the validation loss.

    The loss alone decides where there are no forces, or only forces that are 0 by symmetry.
    """
    forces, loss = (row.get(name, math.nan) for name in ("forces_mae_meV_A", "validation_loss"))
    forces = math.inf if math.isnan(forces) else forces if forces > NO_FORCE else 0.0
    return forces, math.inf if math.isnan(loss) else loss


def best_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The best row, see `score`; {} without rows."""
    best: Mapping[str, float] = min(rows, key=score) if rows else {}
    return dict(best)


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace the file by one with these rows; a column with nothing but NaN is left out.

    Raises: ResourceError EQ6130
    """
    columns = [name for name in COLUMNS if any(not math.isnan(row.get(name, math.nan)) for row in rows)]
    with run_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
