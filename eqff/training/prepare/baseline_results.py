"""Results of a baseline for the frames of a run: computed once, stored in the run folder, found there again."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eqff.artifact.potential import Prediction
from eqff.data.frame import Frame
from eqff.data.frame_list import Frames
from eqff.engines.ase.baseline import Baseline
from eqff.engines.ase.calculators import Maker
from eqff.errors import ConfigError, PotentialError
from eqff.training.folder.run_file import run_file

logger = logging.getLogger("eqff.training")
CACHE = ".baseline.npz"  # in the run folder, which counts as empty with hidden files alone
LOG_EVERY, SAVE_EVERY = 10.0, 60.0  # s


def baseline_results(
    frames: Frames, rows: list[int], maker: Maker, folder: Path | None, where: str
) -> dict[int, Prediction]:
    """Results of a baseline by frame number.  Results are stored even if a later frame fails.

    Args:   rows: numbers of the frames; folder: of the run, None stores nothing; where: name of the frames in messages
    Raises: ConfigError EQ1440 naming a frame for which the baseline fails
    """
    identity = json.dumps([maker.level_of_theory, maker.sha256])
    known = {} if folder is None else _stored(folder, identity)
    results: dict[int, Prediction] = {}
    baseline: Baseline | None = None
    began = logged = saved = time.monotonic()
    n_new = 0
    try:
        for done, row in enumerate(rows):
            frame = frames[row]
            key = _digest(frame)
            if key not in known:
                baseline = baseline or Baseline(maker(), maker.name)
                known[key] = _evaluate(baseline, frame, f"{where}: frame {row}")
                n_new += 1
            results[row] = known[key]
            now = time.monotonic()
            if now - logged > LOG_EVERY:
                logged, left = now, (now - began) / (done + 1) * (len(rows) - done - 1)
                logger.info("baseline %s: %d of %d frames, %.0f s left", maker.name, done + 1, len(rows), left)
            if folder is not None and n_new and now - saved > SAVE_EVERY:
                saved = now
                _store(folder, identity, known)
    finally:
        if folder is not None and n_new:
            _store(folder, identity, known)
    logger.info("baseline %s: %d frames, %d of them from an earlier run", maker.name, len(rows), len(rows) - n_new)
    return results


def _evaluate(baseline: Baseline, frame: Frame, where: str) -> Prediction:
    try:
        return baseline(frame.positions, frame.atomic_numbers, frame.cell, frame.pbc, where)
    except PotentialError as error:
        raise ConfigError("EQ1440", f"{error.message}; leave this frame out, or take another data.baseline") from error


def _digest(frame: Frame) -> str:
    """Hash of everything that a baseline's results depend on."""
    digest = hashlib.sha256()
    for array, dtype in ((frame.atomic_numbers, "i8"), (frame.positions, "f8"), (frame.cell, "f8"), (frame.pbc, "?")):
        digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return digest.hexdigest()


def _store(folder: Path, identity: str, known: Mapping[str, Prediction]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = list(known.values())
    stress = [np.full(6, np.nan) if result.stress is None else result.stress for result in results]
    with run_file(folder / CACHE) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            identity=identity,
            key=list(known),
            n_atoms=[len(result.forces) for result in results],
            energy=[result.energy for result in results],
            forces=np.concatenate([result.forces for result in results]),
            stress=np.array(stress),
        )


def _stored(folder: Path, identity: str) -> dict[str, Prediction]:
    """Stored results of this baseline, by hash of the structure; files that cannot be read are ignored.

    The members of a committee share their results.
    """
    known: dict[str, Prediction] = {}
    others = folder.parent.glob(f"member-*/{CACHE}") if folder.name.startswith("member-") else ()
    for path in (folder / CACHE, *others):
        if not path.is_file():
            continue
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["identity"]) != identity:
                    continue
                forces = np.split(file["forces"], np.cumsum(file["n_atoms"])[:-1])
                stress = [None if np.isnan(row).any() else row for row in file["stress"]]
                results = zip(file["key"].tolist(), file["energy"].tolist(), forces, stress, strict=True)
                known |= {key: Prediction(energy, None, force, s) for key, energy, force, s in results}
        except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged file
            logger.warning("%s cannot be read (%s); computing the baseline again", path, error)
    return known
