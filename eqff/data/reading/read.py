"""The front door: any data file to frames; format, units and chosen frames are settled here and reported."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from eqff.data.frame import Census, Counter, Frame, check_frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format, find_format, format_named, format_of
from eqff.data.reading.index import MANY, outside, rows_of, split_index
from eqff.data.reading.options import ReadLog, ReadOptions
from eqff.digest import file_sha256
from eqff.errors import ConfigError, DataError, EqffError

NO_UNIT = ("EQ3010", "EQ3012")  # errors that ask for a unit


class Stream:
    """An open data file: what was decided, and its frames one after the other, each checked.

    A pass over it fills `log` and `counter` anew.  With options.structures frames are not checked, and labels that
    cannot be understood are left out instead of refused: the task judges the structures.

    Args:   path: FILE or FILE@INDEX, as options.index; options; checked: whether frames pass `check_frame`
    Raises: ConfigError EQ1030 label names for a format without, EQ1960 two indices, EQ1961 an index that is none;
            DataError EQ3024 no such file, EQ3025 no frames, EQ3925 an empty file, and what the format refuses
    """

    def __init__(self, path: str | Path, options: ReadOptions | None = None, *, checked: bool = True) -> None:
        options = options or ReadOptions()
        self._checked = checked and not options.structures
        self.path, index = split_index(path)
        if index is not None and options.index is not None:
            raise ConfigError("EQ1960", f"{path}: index {options.index!r} is given as well; leave one of the two out")
        self.index = options.index if index is None else index
        rows_of(self.path, self.index, lambda: MANY)  # refuses what is no index
        if not self.path.exists():
            raise DataError("EQ3024", f"{self.path}: no such file; check the name")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise DataError("EQ3925", f"{self.path}: the file is empty; download or write it again")
        self.format = format_of(options.format) if options.format else find_format(self.path)
        self._format: Format = format_named(self.format)
        self._options = options.fresh()
        if options.about_labels and not self._format.takes_keys:
            given = " and ".join(options.about_labels)
            reason = f"format {self.format} fixes names and units of its labels"
            raise ConfigError("EQ1030", f"{self.path}: {reason}; leave out {given}")
        self._unit_problem: str | None = None
        with np.errstate(all="ignore"):
            self.units = self._units()
        self.origin: dict[str, str] = {}
        if options.format not in (None, self.format):
            self.origin = {"kind": str(options.format)}
        elif self._format.provenance is not None:
            self.origin = self._format.provenance(self.path)
        self.counter = Counter()

    def _units(self) -> Units:
        """As the format decides; a structure without understandable labels needs no unit of energy."""
        try:
            return self._format.units(self.path, self._options)
        except DataError as error:
            if not self._options.structures or self._options.energy_unit is not None or any(self._options.keys):
                raise
            assumed = replace(self._options, energy_unit="eV")
            found = self._format.units(self.path, assumed)
            self._options = assumed
            if error.id in NO_UNIT:
                self._unit_problem = error.message
            return found

    @property
    def is_store(self) -> bool:
        """Whether the frames are all of eqff's own store, which can be read in any order without a pass."""
        return self.format == "hdf5" and self.index is None

    @property
    def log(self) -> ReadLog:
        """What the pass so far left out, and the names of labels."""
        return self._options.log

    @property
    def census(self) -> Census:
        """Of the frames that were passed on so far."""
        return self.counter.census()

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return source_sha256(self.path)

    @property
    def provenance(self) -> dict[str, str]:
        """Where the numbers come from, as plain text for a store or a potential file."""
        return {
            "source": self.path.name,
            "source_sha256": self.sha256,
            "source_format": self.format,
            "source_energy_unit": f"{self.units.energy} ({self.units.energy_source})",
            "source_length_unit": f"{self.units.length} ({self.units.length_source})",
            **self.origin,
        }

    @cached_property
    def n_in_file(self) -> int:
        """Number of frames of the file, by a pass over it unless its format counts faster."""
        if self._format.count is not None:
            n_frames = self._format.count(self.path)
            if n_frames:
                return n_frames
        return sum(1 for _ in self._format.read(self.path, self._options.fresh()))

    def rows(self, counted: bool | None = None) -> range:
        """Numbers in the file of the frames that the index names.

        Args:   counted: whether the end has to be known; None: if counting is cheap
        Raises: DataError EQ3106 for an index outside the file
        """
        count_now = self._format.count is not None if counted is None else counted
        return rows_of(self.path, self.index, lambda: self.n_in_file, count_now)

    def numbered(self, rows: range | None = None) -> Iterator[tuple[int, Frame]]:
        """Frames with their numbers in the file.

        Args:   rows: those to read, a part of `rows()`; None: all of it
        Raises: as the format and `check_frame`; EQ3106 for an index behind the end
        """
        rows = rows_of(self.path, self.index, lambda: self.n_in_file) if rows is None else rows
        first = min(rows[0], rows[-1]) if rows and self._format.skips else 0
        self._options, self.counter = replace(self._options.fresh(), first=first), Counter()
        if rows.step > 0:
            yield from self._forward(rows)
            return
        yield from reversed(list(self._forward(rows[::-1])))

    def __iter__(self) -> Iterator[Frame]:
        for _, frame in self.numbered():
            yield frame

    def _forward(self, rows: range) -> Iterator[tuple[int, Frame]]:
        if not rows:
            return
        options, n_refused = self._options, 0
        try:
            for place, frame in enumerate(_quietly(self._format.read(self.path, options)), options.first):
                number = place + options.log.n_skipped - n_refused
                if number > rows[-1]:
                    break
                if number not in rows:
                    continue
                if self._unit_problem is not None:
                    options.log.unlabelled = options.log.unlabelled or self._unit_problem
                    frame = replace(frame, energy=None, forces=None, stress=None)
                if self._checked:
                    try:
                        with np.errstate(all="ignore"):
                            check_frame(frame, f"{self.path}: frame {number}")
                    except EqffError as error:
                        options.skip(error)
                        n_refused += 1
                        continue
                self.counter.add(frame)
                yield number, frame
                if number == rows[-1]:
                    break
        except DataError as error:
            if error.id == "EQ3025":
                self._refuse_outside(rows)
            if error.id == "EQ3025" or self.counter.n_frames == 0:
                raise
            options.stop(error)
        if self.counter.n_frames == 0:
            self._refuse_outside(rows)
            after = f" after {options.log.n_skipped} that were left out" if options.log.n_skipped else ""
            source = f"{self.path}{after}"
            raise DataError("EQ3025", f"{source}: there are no frames to read; check that the file is complete")
        if self._checked:
            self._suggest()

    def _refuse_outside(self, rows: range) -> None:
        """Raises: DataError EQ3106 if all frames that the index names are behind the end of the file"""
        if self.index is not None and self.counter.n_frames == 0 and self.n_in_file <= rows[0]:
            raise outside(self.path, self.index, self.n_in_file)

    def _suggest(self) -> None:
        """Ask about a label that no frame has, while another name looks like it.  Raises: DataError EQ3200"""
        for label in ("energy", "forces"):
            names = [name for (kind, name), _ in self.log.candidates.most_common() if kind == label]
            if names and self.counter.labels[label] == 0:
                raise DataError(
                    "EQ3200",
                    f"{self.path}: no frame has {label} under a usual name, but {', '.join(map(repr, names[:6]))} "
                    f"looks like it; pass {label}_key (--{label}-key {names[0]}), or 'none' to leave it out",
                )


class Source(Stream):
    """A file that has been read: a stream with all its frames in memory.

    Args, Raises: as `Stream`
    """

    def __init__(self, path: str | Path, options: ReadOptions | None = None) -> None:
        super().__init__(path, options)
        self.frames = list(self)


def read_frames(
    path: str | Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    force_unit: str | None = None,
    stress_unit: str | None = None,
    stress_order: str | None = None,
    types: str | None = None,
    skip_bad: bool = False,
    recover: bool = False,
    format: str | None = None,
    index: str | None = None,
) -> list[Frame]:
    """All frames of a file in eV and Å.

    Args:    path: .npz (MD17, sGDML, rMD17, QM9), .xyz or .extxyz, .h5 (eqff's store, TorchMD-Net, SPICE, ANI), .db, a
             DeePMD folder, or any file ASE reads; FILE@INDEX reads the frames that `index` names;
             energy_unit, length_unit: needed where a file does not state them, e.g. "kcal/mol";
             energy_key, forces_key, stress_key: names of labels, "none" to leave one out;
             force_unit, stress_unit: where they are not those of energies and lengths, e.g. "Hartree/Bohr", "GPa";
             stress_order: of six numbers under another name than stress, "voigt" or "vasp";
             types: elements of numbered types, "Si,O" or "1=Si,3=O";
             skip_bad: leave out frames that cannot be used; recover: keep the frames before damage;
             format: a name in data/formats; index: "0", "-1", "2:5", "::10"
    Returns: frames, every number finite
    Raises:  DataError naming file and frame; ConfigError for an option that cannot be used
    """
    options = ReadOptions(
        format=format,
        index=index,
        energy_unit=energy_unit,
        length_unit=length_unit,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        force_unit=force_unit,
        stress_unit=stress_unit,
        stress_order=stress_order,
        types=types,
        skip_bad=skip_bad,
        recover=recover,
    )
    return Source(path, options).frames


def source_sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal; of a folder, over names and contents of its files."""
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for member in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{member.relative_to(path).as_posix()} {file_sha256(member)}\n".encode())
    return digest.hexdigest()


def _quietly(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Without numpy's warnings about numbers that are not finite: those are refused, with their frame."""
    while True:
        with np.errstate(all="ignore"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
