"""Delta learning: the energies, forces and stress of another calculator are subtracted from the labels."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from eqff.artifact.potential import Prediction
from eqff.data.differences import Differences
from eqff.data.frame import Frame
from eqff.data.frame_list import Frames
from eqff.data.splits import Split
from eqff.engines.ase.calculators import calculator_maker
from eqff.errors import ConfigError
from eqff.training.folder.run_file import MODEL
from eqff.training.plan import UsedBaseline
from eqff.training.prepare.baseline_results import baseline_results

logger = logging.getLogger("eqff.training")


def differences(
    frames: Frames, split: Split, name: str, stress: bool, folder: Path | None, where: str
) -> tuple[Differences, UsedBaseline]:
    """Subtract a baseline from the labels of all frames that train or validate.

    Args:    frames: eV, Å; name: of a calculator, see engines/ase/calculators; stress: whether it is trained;
             folder: of the run, where results are stored and found again; None stores nothing;
             where: what error messages call the frames
    Returns: (frames with differences as labels, a record of the baseline)
    Raises:  ConfigError EQ1440 naming a frame for which the baseline fails, EQ1441 if stress is trained and the
             baseline has none, EQ1442 if a resumed run had another baseline; and for a calculator that cannot be made
    """
    maker = calculator_maker(name)
    record: dict[str, Any] = {
        "name": name if maker.file is None or not Path(name).is_file() else maker.file.name,
        "level_of_theory": maker.level_of_theory,
        "sha256": None if maker.file is None else maker.sha256,
    }
    if folder is not None:
        _check_same(folder / MODEL, record)
    rows = np.sort(np.concatenate([split.train, split.validation])).tolist()
    results = baseline_results(frames, rows, maker, folder, where)
    labelled = frames.has("stress")

    def lacks_stress(row: int) -> bool:
        return bool(labelled[row]) and results[row].stress is None

    without = next((row for row in rows if stress and lacks_stress(row)), None)
    if without is not None:
        raise ConfigError(
            "EQ1441", f"data.baseline={name!r}: gives no stress for frame {without}; set training.loss.stress = 0"
        )
    subtracted = Differences(frames, results)
    smallest = min(np.sort(split.train).tolist(), key=lambda row: len(results[row].forces))
    record["check"] = _check_record(frames[smallest], results[smallest])
    _log_gain(frames, subtracted, rows, name)
    return subtracted, UsedBaseline(record, maker.file)


def _check_same(path: Path, record: dict[str, Any]) -> None:
    """Check that a resumed run subtracts the same baseline as before."""
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8")).get("baseline") or {}
    changed = [f"{key}: {before.get(key)!r} -> {now!r}" for key, now in record.items() if before.get(key) != now]
    if changed:
        raise ConfigError(
            "EQ1442",
            f"data.baseline differs from that of this run ({'; '.join(changed)}); start a new run with it",
        )


def _check_record(frame: Frame, result: Prediction) -> dict[str, Any]:
    """A structure and its results, with which a potential checks later that it has the same baseline."""
    return {
        "atomic_numbers": frame.atomic_numbers.tolist(),
        "positions": frame.positions.tolist(),
        "cell": frame.cell.tolist(),
        "pbc": frame.pbc.tolist(),
        "energy": result.energy,
        "forces": result.forces.tolist(),
    }


def _log_gain(frames: Frames, subtracted: Differences, rows: list[int], name: str) -> None:
    """Log how much smaller the forces to learn are; the statistics report the range of the energies."""
    both = []
    for source in (frames, subtracted):
        squares = [np.square(f.forces).mean() for f in (source[row] for row in rows) if f.forces is not None]
        both.append(float(np.sqrt(np.mean(squares))) if squares else np.nan)
    logger.info("forces: labels %.3g eV/Å (RMS), their differences from %s %.3g eV/Å", both[0], name, both[1])
    if both[1] > both[0]:
        logger.warning("the differences are larger than the labels: this baseline leaves more to learn, not less")
