"""Predictions for every frame of a file: streamed, packed into batches by edges, resumable, split into shards.

    info     eqff_cohesive_energy and eqff_formation_energy eV/atom where isolated atoms or elemental phases are known
    info     eqff_energy eV; eqff_stress eV/Å^3, Voigt xx yy zz yz xz xy, for frames periodic in three directions
    arrays   eqff_forces eV/Å; eqff_energies eV, of each atom (unless a baseline has none)

Shard i of n is the i-th of n consecutive parts: the concatenated files of all shards (`cat`) are the whole.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqff.artifact.potential import Potential, Prediction, check_finite
from eqff.data.frame import Frame
from eqff.data.reading import structures
from eqff.data.reading.index import split_index
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream
from eqff.digest import file_sha256
from eqff.engines.ase import charge_and_spin
from eqff.engines.ase.baseline import added_to
from eqff.errors import ConfigError, DataError, EqffError, GraphError, PotentialError, RunError
from eqff.graph import Structure, grouped, n_edges
from eqff.tasks.binding import NONE, References
from eqff.tasks.metrics import ErrorSums, pairs
from eqff.tasks.resumable import ResumableFile

MAX_LISTED = 10  # frames whose results the report lists; of more frames none
MAX_BAD_NAMED = 20  # failed frames whose reasons the report keeps
BINDING = ("eqff_cohesive_energy", "eqff_formation_energy")  # in info, eV/atom
MANY_FRAMES = 2**31  # more than any file has: the frames were not counted


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Input, output and options."""

    source: str | Path  # FILE or FILE@INDEX, in any format of eqff/data/formats
    output: Path  # extended XYZ
    as_calculator: bool = False  # results as energy, forces, stress; labels of the file become REF_energy, ...
    shard: tuple[int, int] = (1, 1)  # (i, n): the i-th of n consecutive parts, i from 1
    skip_bad: bool = False  # write frames that the potential cannot evaluate without results, instead of stopping
    resume: bool = False  # continue an existing output
    force: bool = False  # overwrite an existing output
    max_edges: int | None = None  # of one batch; None: a default for the device
    add: str | None = None  # dispersion, e.g. "d3:PBE"
    references: References = NONE  # energies of isolated atoms and elemental phases
    reading: ReadOptions = field(default_factory=ReadOptions)  # units, names of the labels to compare with, frames

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if self.output.suffix not in structures.EXTENDED_XYZ:
            raise ConfigError(
                "EQ1224", f"output={self.output} has an unknown suffix; give a name that ends in .extxyz or .xyz"
            )
        part, n_parts = self.shard
        if not 1 <= part <= n_parts:
            raise ConfigError(
                "EQ1225",
                f"shard={f'{part}/{n_parts}'}: expected i/n with i from 1 to n; for four processes: 1/4 ... 4/4",
            )
        if self.output.resolve() == split_index(self.source)[0].resolve():
            raise ConfigError(
                "EQ1226", f"output={self.output} would overwrite the frames it is made from; choose another name"
            )


class FrameResult(NamedTuple):
    """Results of a frame, for a table."""

    frame: int
    formula: str
    n_atoms: int
    energy: float  # eV
    max_force: float  # eV/Å, the longest
    energy_error: float | None  # eV, against the label; None without one
    energy_error_aligned: float | None  # eV, without the mean error of its composition; None unless several share it
    forces_mae: float | None  # eV/Å, of components
    cohesive_energy: float | None = None  # eV/atom, against isolated atoms; None where they are unknown
    formation_energy: float | None = None  # eV/atom, against elemental phases; None where they are unknown


class PredictReport(NamedTuple):
    """Summary of a run; numbers of frames count from 0 in the whole input."""

    output: Path
    first: int  # frame of this shard
    n_frames: int  # in the output
    n_resumed: int  # of them, done before this run
    n_atoms: int
    n_bad: int  # of them, without results
    bad: dict[int, str]  # frame -> reason, the first 20
    errors: dict[str, float]  # against labels, names end in units; empty without labels
    unknown_compositions: list[str]  # whose energies contain an unknown constant
    notes: list[str]  # further notes for the user
    program: str  # that computed them: the one in the file or a compiled one
    wall_seconds: float
    frames_per_second: float  # of this run, without loading the potential
    listed: tuple[FrameResult, ...]  # every frame with results, if all were done in this run and are at most 10
    already_there: bool  # the output was finished before; nothing was done, and only `output` is known


class _Record(NamedTuple):
    """A frame that is being processed."""

    number: int  # in the whole input
    atoms: Atoms
    labels: Frame | None
    structure: Structure | None  # None for a bad frame
    reason: str


def run_predict(
    config: PredictConfig, potential: Potential, progress: Callable[[int, int | None], None] | None = None
) -> PredictReport:
    """Read, predict and write, with at most one batch of frames in memory.

    A run that was killed at any moment and resumed on the same machine writes the same file.

    Args:    config; potential; progress: called with (frames done, frames of this shard, None if unknown)
    Returns: PredictReport
    Raises:  DataError for files that cannot be read; GraphError or RunError naming the first frame that the potential
             cannot take (unless skip_bad); ConfigError for options, and files that exist; OSError when writing fails
    """
    started = time.perf_counter()
    stream = structures.open_structures(config.source, config.reading)
    rows, total = _rows(stream, config.shard)
    start: dict[str, Any] = {"n_frames": 0, "n_atoms": 0, "n_bad": 0, "bad": {}, "sums": {}, "unknown": [], "notes": []}
    output = ResumableFile(config.output, _settings(config, potential, stream), start, config.resume, config.force)
    with output:
        n_resumed = output.memory["n_frames"]
        work = _Work(config, potential, stream, output.memory)
        if not output.finished:
            if progress is not None:
                progress(n_resumed, total)
            records = work.records(rows[n_resumed:])
            for batch in grouped(records, _size, potential.max_edges(config.max_edges)):
                output.append(work.predicted(batch), work.memory())
                if progress is not None:
                    progress(work.n_frames, total)
            output.finish()
    elapsed = time.perf_counter() - started
    return PredictReport(
        output=config.output,
        first=rows[0] if rows else rows.start,
        n_frames=work.n_frames,
        n_resumed=n_resumed,
        n_atoms=work.n_atoms,
        n_bad=work.n_bad,
        bad=work.bad,
        errors=work.errors.metrics(),
        unknown_compositions=work.unknown,
        notes=work.notes,
        program=" + ".join(part for part in (potential.program, potential.baseline, config.add) if part is not None),
        wall_seconds=elapsed,
        frames_per_second=(work.n_frames - n_resumed) / elapsed if elapsed > 0 else math.nan,
        listed=aligned(work.listed) if work.n_frames <= MAX_LISTED and not n_resumed else (),
        already_there=output.finished,
    )


def aligned(results: Sequence[FrameResult]) -> tuple[FrameResult, ...]:
    """Energy errors also without the mean error of their composition, where several frames share one."""
    errors: dict[str, list[float]] = {}
    for result in results:
        if result.energy_error is not None:
            errors.setdefault(result.formula, []).append(result.energy_error)
    found = []
    for result in results:
        same = errors.get(result.formula, [])
        if result.energy_error is not None and len(same) > 1:
            result = result._replace(energy_error_aligned=result.energy_error - sum(same) / len(same))
        found.append(result)
    return tuple(found)


def _rows(stream: Stream, shard: tuple[int, int]) -> tuple[range, int | None]:
    """Numbers in the file of the frames of a shard, and their count: None if counting would need to read the file."""
    part, n_parts = shard
    rows = stream.rows(counted=True if n_parts > 1 else None)
    if len(rows) >= MANY_FRAMES:
        return rows, None
    rows = rows[(part - 1) * len(rows) // n_parts : part * len(rows) // n_parts]
    return rows, len(rows)


def _settings(config: PredictConfig, potential: Potential, stream: Stream) -> dict[str, Any]:
    """Settings that must not change when a run continues."""
    return {
        "input_sha256": stream.sha256,
        "index": stream.index,
        "potential_sha256": file_sha256(potential.path) if potential.path is not None else None,
        "device": potential.device.type,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "program": potential.program,
        **({} if config.add is None else {"add": config.add}),
        "shard": list(config.shard),
        "max_edges": potential.max_edges(config.max_edges),
        "as_calculator": config.as_calculator,
        "references": config.references.plain(),
        "label_keys": list(config.reading.keys),
        "units": [stream.units.energy, stream.units.length],
    }


def _size(record: _Record) -> int:
    return n_edges(record.structure) if record.structure is not None else max(len(record.atoms), 1)


class _Work:
    """Sends frames through the potential and counts the results."""

    def __init__(self, config: PredictConfig, potential: Potential, stream: Stream, memory: dict[str, Any]) -> None:
        self.config = config
        self.stream = stream
        self.potential = potential
        self.baseline = added_to(potential, dispersed=config.add)
        self.n_frames: int = memory["n_frames"]
        self.n_atoms: int = memory["n_atoms"]
        self.n_bad: int = memory["n_bad"]
        self.bad = {int(index): reason for index, reason in memory["bad"].items()}
        self.errors = ErrorSums(memory["sums"])
        self.unknown: list[str] = list(memory["unknown"])
        self.notes: list[str] = list(memory["notes"])
        self._seen: set[str] = set()
        self.listed: list[FrameResult] = []

    def memory(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "n_frames": self.n_frames,
            "n_atoms": self.n_atoms,
            "n_bad": self.n_bad,
            "bad": self.bad,
            "sums": self.errors.sums,
            "unknown": self.unknown,
            "notes": self.notes,
        }

    def records(self, rows: range) -> Iterator[_Record]:
        """Frames with their neighbours; a bad frame has none, or stops the run."""
        for index, frame in self.stream.numbered(rows):
            where = f"{self.stream.path}: frame {index}"
            atoms = structures.to_atoms(frame)
            labels = frame if any(label is not None for label in (frame.energy, frame.forces, frame.stress)) else None
            if self.stream.log.unlabelled is not None:
                kind = "labels not compared"
                self._note(f"{kind}: {self.stream.log.unlabelled}", kind)
            structure, reason = None, ""
            try:
                structure = self.potential.structure(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, where)
            except GraphError as error:
                reason = self._skipped(error)
            yield _Record(index, atoms, labels, structure, reason)

    def predicted(self, batch: list[_Record]) -> str:
        """One batch as text."""
        results = iter(self.potential.predict_batch([one.structure for one in batch if one.structure is not None]))
        pieces = []
        for index, atoms, labels, structure, reason in batch:
            where = f"{self.stream.path}: frame {index}"
            prediction = next(results) if structure is not None else None
            if prediction is not None:
                try:
                    check_finite(prediction, where)
                    if self.baseline is not None:
                        plain = (atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
                        prediction = self.baseline.added(prediction, *plain, where)
                except (RunError, PotentialError) as error:
                    prediction, reason = None, self._skipped(error)
            try:
                structures.clear_results(atoms)
                if self.config.as_calculator:
                    rename_labels(atoms)
                if prediction is not None:
                    attach(atoms, prediction, self.config.as_calculator)
                    for name, energy in zip(BINDING, self._binding(atoms, prediction), strict=True):
                        if energy is not None:
                            atoms.info[name] = energy
                pieces.append(structures.frame_text(atoms))
            except DataError as error:
                raise DataError(error.id, f"{where} {error.message}") from error
            self._count(index, atoms, labels, prediction, reason)
        return "".join(pieces)

    def _count(
        self, index: int, atoms: Atoms, labels: Frame | None, prediction: Prediction | None, reason: str
    ) -> None:
        self.n_frames += 1
        self.n_atoms += len(atoms)
        if prediction is None:
            self.n_bad += 1
            if len(self.bad) < MAX_BAD_NAMED:
                self.bad[index] = reason
            return
        if labels is not None:
            self.errors.add(prediction, labels)
        formula = str(atoms.get_chemical_formula())
        if len(self.listed) < MAX_LISTED:
            cohesive, formation = self._binding(atoms, prediction)
            result = _result(index, formula, prediction, labels)
            self.listed.append(result._replace(cohesive_energy=cohesive, formation_energy=formation))
        missing = sorted(set(atoms.symbols) - set(self.config.references.elemental))
        if self.config.references.elemental and missing:
            self._note(f"no formation energies of structures with {', '.join(missing)}: no such phase is given")
        if formula not in self._seen:
            self._seen.add(formula)
            counts = [int((atoms.symbols == symbol).sum()) for symbol in self.potential.species]
            if not self.potential.knows_composition(counts) and formula not in self.unknown:
                self.unknown.append(formula)
        if state := charge_and_spin(atoms):
            kind = "potentials know neither charge nor spin"
            self._note(f"{kind}, but frame {index} has {state}: results are for the state that was trained", kind)
        for name in structures.lost_constraints(atoms):
            self._note(f"constraints of kind {name} cannot be kept in extended XYZ")

    def _binding(self, atoms: Atoms, prediction: Prediction) -> tuple[float | None, float | None]:
        """Cohesive and formation energy, eV/atom."""
        references, energy = self.config.references, float(prediction.energy)
        return references.cohesive(atoms, energy), references.formation(atoms, energy)

    def _skipped(self, error: EqffError) -> str:
        """The reason, if bad frames may be skipped."""
        if not self.config.skip_bad:
            raise type(error)(error.id, f"{error.message}; or pass such frames on without results: --skip-bad")
        return f"{error.id} {error.message}"

    def _note(self, text: str, kind: str | None = None) -> None:
        """Once."""
        if not any(note.startswith(kind or text) for note in self.notes):
            self.notes.append(text)


def _result(index: int, formula: str, prediction: Prediction, labels: Frame | None) -> FrameResult:
    both = {} if labels is None else pairs(prediction, labels)
    errors = {name: value - label for name, (label, value) in both.items()}
    return FrameResult(
        frame=index,
        formula=formula,
        n_atoms=len(prediction.forces),
        energy=float(prediction.energy),
        max_force=float(np.linalg.norm(prediction.forces, axis=1).max(initial=0.0)),
        energy_error=float(errors["energy"][0]) if "energy" in errors else None,
        energy_error_aligned=None,
        forces_mae=float(np.abs(errors["forces"]).mean()) if "forces" in errors else None,
    )


def rename_labels(atoms: Atoms) -> None:
    """Labels become REF_energy, ..., so that the plain names are free.

    Raises: DataError EQ3104 if a name to which a label would be moved is taken
    """
    results = atoms.calc.results if atoms.calc is not None else {}
    for names, place in zip(structures.LABEL_NAMES, (atoms.info, atoms.arrays), strict=True):
        for name in names:
            source = results if name in results else place
            if name not in source:
                continue
            if f"REF_{name}" in place and not np.array_equal(place[f"REF_{name}"], source[name]):
                raise DataError(
                    "EQ3104", f"has {name!r} and another 'REF_{name}': --as-calculator would lose one; leave it out"
                )
            place[f"REF_{name}"] = source.pop(name)


def attach(atoms: Atoms, prediction: Prediction, as_calculator: bool) -> None:
    """Put results into a frame: as eqff_energy, ..., or as those of a calculator."""
    if not as_calculator:
        atoms.info["eqff_energy"] = prediction.energy
        if prediction.stress is not None:
            atoms.info["eqff_stress"] = prediction.stress
        atoms.arrays["eqff_forces"] = prediction.forces
        if prediction.energies is not None:
            atoms.arrays["eqff_energies"] = prediction.energies
        return
    others = atoms.calc.results if atoms.calc is not None else {}
    values = {name: value for name, value in prediction._asdict().items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **(others | values))


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/4" -> (2, 4).  Raises: ConfigError EQ1225"""
    part, slash, n_parts = text.partition("/")
    if not (slash and part.strip().isdecimal() and n_parts.strip().isdecimal()):
        raise ConfigError("EQ1225", f"shard={text}: expected i/n with i from 1 to n; for four processes: 1/4 ... 4/4")
    return int(part), int(n_parts)
