"""Delta learning: labels minus the energies, forces and stress of another calculator, computed once before training."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqff.artifact.potential import Prediction
from eqff.data.frame import Frame
from eqff.data.splits import Split
from eqff.data.store.store import Store
from eqff.engines.ase.baseline import Baseline
from eqff.engines.ase.calculators import Maker, calculator_maker
from eqff.errors import ConfigError, PotentialError
from eqff.training.folder.run_file import run_file

logger = logging.getLogger("eqff.training")
CACHE = ".baseline.npz"  # in the run folder; hidden files do not make a folder one that was used
COPY = "baseline.eqff.pt"  # of a baseline that is a potential, in the run folder: best.eqff.pt finds it beside itself
TELL_EVERY, SAVE_EVERY = 10.0, 60.0  # s


class UsedBaseline(NamedTuple):
    """What a run's labels are differences from."""

    record: dict[str, Any]  # for the header of the potential
    file: Path | None  # of a baseline that is a potential


class Differences(Sequence[Frame]):
    """Frames whose labels are those of a file minus those of a baseline.

    Labels of frames that no one computed a baseline for, as they neither train nor validate, are not a number.

    Args: frames: eV, Å; found: results of the baseline by number of frame
    """

    def __init__(self, frames: Sequence[Frame] | Store, found: Mapping[int, Prediction]) -> None:
        self.frames, self.found = frames, found

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Any:
        """One frame.  Raises: IndexError"""
        return difference(self.frames[index], self.found.get(int(index)))

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self.frames):
            yield difference(frame, self.found.get(index))


def difference(frame: Frame, baseline: Prediction | None) -> Frame:
    """A frame with its labels minus the baseline's; a label that is missing stays so, without baseline it is NaN."""
    values: dict[str, Any] = {}
    for name in ("energy", "forces", "stress"):
        label, own = getattr(frame, name), None if baseline is None else getattr(baseline, name)
        if label is not None:
            values[name] = label - (np.nan if own is None else own)
    return Frame(**{**vars(frame), **values})


def differences(
    frames: Sequence[Frame] | Store, split: Split, name: str, stress: bool, folder: Path | None, where: str
) -> tuple[Differences, UsedBaseline]:
    """Evaluate the baseline for all frames that train or validate, or take what the run folder remembers.

    Args:   name: see engines/ase/calculators; stress: whether it is trained; folder: of the run, None keeps nothing;
            where: what to call the frames in messages
    Raises: ConfigError EQ1440 naming a frame for which the baseline fails, EQ1441 if it has no stress and that is
            trained, EQ1442 if the run began with another one; and for a calculator that cannot be made
    """
    maker = calculator_maker(name)
    record: dict[str, Any] = {
        "name": name if maker.file is None or not Path(name).is_file() else maker.file.name,
        "level_of_theory": maker.level_of_theory,
        "sha256": None if maker.file is None else maker.sha256,
    }
    if folder is not None:
        _check_same(folder / "model.json", record)
    rows = np.sort(np.concatenate([split.train, split.validation])).tolist()
    found = _results(frames, rows, maker, folder, where)
    without = next((row for row in rows if stress and found[row].stress is None), None)
    if without is not None:
        raise ConfigError(
            "EQ1441", f"data.baseline={name!r}: gives no stress for frame {without}; set training.loss.stress = 0"
        )
    used = Differences(frames, found)
    smallest = min(np.sort(split.train).tolist(), key=lambda row: len(found[row].forces))
    record["check"] = _check_record(frames[smallest], found[smallest])
    _tell_gain(frames, used, rows, name)
    return used, UsedBaseline(record, maker.file)


def _results(
    frames: Sequence[Frame] | Store, rows: list[int], maker: Maker, folder: Path | None, where: str
) -> dict[int, Prediction]:
    """Results of the baseline by frame; what was computed is kept, whatever happens."""
    identity = json.dumps([maker.level_of_theory, maker.sha256])
    known = {} if folder is None else _remembered(folder, identity)
    found: dict[int, Prediction] = {}
    baseline: Baseline | None = None
    began = told = saved = time.monotonic()
    n_new = 0
    try:
        for done, row in enumerate(rows):
            frame = frames[row]
            key = _digest(frame)
            if key not in known:
                baseline = baseline or Baseline(maker(), maker.name)
                known[key] = _evaluate(baseline, frame, f"{where}: frame {row}")
                n_new += 1
            found[row] = known[key]
            now = time.monotonic()
            if now - told > TELL_EVERY:
                told, left = now, (now - began) / (done + 1) * (len(rows) - done - 1)
                logger.info("baseline %s: %d of %d frames, %.0f s left", maker.name, done + 1, len(rows), left)
            if folder is not None and n_new and now - saved > SAVE_EVERY:
                saved = now
                _remember(folder, identity, known)
    finally:
        if folder is not None and n_new:
            _remember(folder, identity, known)
    logger.info("baseline %s: %d frames, %d of them remembered", maker.name, len(rows), len(rows) - n_new)
    return found


def _evaluate(baseline: Baseline, frame: Frame, where: str) -> Prediction:
    try:
        return baseline(frame.positions, frame.atomic_numbers, frame.cell, frame.pbc, where)
    except PotentialError as error:
        raise ConfigError("EQ1440", f"{error.message}; leave this frame out, or take another data.baseline") from error


def _digest(frame: Frame) -> str:
    """What a baseline's results depend on."""
    digest = hashlib.sha256()
    for array, dtype in ((frame.atomic_numbers, "i8"), (frame.positions, "f8"), (frame.cell, "f8"), (frame.pbc, "?")):
        digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return digest.hexdigest()


def _remember(folder: Path, identity: str, known: Mapping[str, Prediction]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = list(known.values())
    stress = [np.full(6, np.nan) if one.stress is None else one.stress for one in results]
    with run_file(folder / CACHE) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            identity=identity,
            key=list(known),
            n_atoms=[len(one.forces) for one in results],
            energy=[one.energy for one in results],
            forces=np.concatenate([one.forces for one in results]),
            stress=np.array(stress),
        )


def _remembered(folder: Path, identity: str) -> dict[str, Prediction]:
    """Results by structure, of this baseline; nothing where there are none, or none that can be read.

    Of a committee, members find what another one has computed.
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
        except Exception as error:  # numpy and zipfile raise whatever a damaged file makes them meet
            logger.warning("%s cannot be read (%s): computed anew", path, error)
    return known


def _check_same(path: Path, record: dict[str, Any]) -> None:
    """A run that goes on needs the labels it began with."""
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8")).get("baseline") or {}
    changed = [f"{key}: {before.get(key)!r} -> {now!r}" for key, now in record.items() if before.get(key) != now]
    if changed:
        raise ConfigError(
            "EQ1442", f"data.baseline is not that of the run so far ({'; '.join(changed)}); start a new run with it"
        )


def _check_record(frame: Frame, result: Prediction) -> dict[str, Any]:
    """One structure by whose results the baseline is known again."""
    return {
        "atomic_numbers": frame.atomic_numbers.tolist(),
        "positions": frame.positions.tolist(),
        "cell": frame.cell.tolist(),
        "pbc": frame.pbc.tolist(),
        "energy": result.energy,
        "forces": result.forces.tolist(),
    }


def _tell_gain(frames: Sequence[Frame] | Store, used: Differences, rows: list[int], name: str) -> None:
    """How much smaller the forces to learn have become; the energies' range is reported with the statistics."""
    both = []
    for source in (frames, used):
        squares = [np.square(f.forces).mean() for f in (source[row] for row in rows) if f.forces is not None]
        both.append(float(np.sqrt(np.mean(squares))) if squares else np.nan)
    logger.info("forces: labels %.3g eV/Å (RMS), their differences from %s %.3g eV/Å", both[0], name, both[1])
    if both[1] > both[0]:
        logger.warning("the differences are larger than the labels: this baseline leaves more to learn, not less")
