"""The front door: any data file to frames, its format found by suffix and content, its units settled and reported."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

import numpy as np

from eqff import registry
from eqff.data.frame import Census, Counter, Frame, census, check_frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.npz import npz_names
from eqff.data.reading.options import ReadLog, ReadOptions
from eqff.digest import file_sha256
from eqff.errors import ConfigError, DataError, EqffError


@dataclass(frozen=True)
class Source:
    """A file that was read: its frames and what was decided while reading."""

    path: Path
    format: str
    sha256: str  # of the file
    units: Units
    frames: list[Frame]
    origin: dict[str, str] = field(default_factory=dict)  # what the file itself says of where it came from
    log: ReadLog = field(default_factory=ReadLog)  # frames left out, names of labels

    @property
    def census(self) -> Census:
        """Frames, labels and compositions, counted."""
        return census(self.frames)

    @property
    def provenance(self) -> dict[str, str]:
        """Where the numbers come from, as plain text for a store or a potential file."""
        return _provenance(self)


class Stream:
    """A data file that is open: what was decided, and its frames one after the other, each checked.

    A pass over it fills `log` and `counter` anew.
    Args:   path; options; format: a name in data/formats, found by suffix and content if None
    Raises: DataError EQ3024 no such file, EQ3025 empty, and what the format refuses
    """

    def __init__(self, path: str | Path, options: ReadOptions | None = None, *, format: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError("EQ3024", f"{path}: no such file")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise DataError("EQ3025", f"{path}: the file is empty")
        self.format = format or find_format(path)
        self._module = _modules().get(self.format) or registry.load("data.formats", self.format)
        self._options = (options or ReadOptions()).fresh()
        if any(self._options.keys) and not getattr(self._module, "TAKES_KEYS", False):
            reason = f"label names cannot be chosen in format {self.format}"
            raise ConfigError("EQ1030", f"{path}: {reason}; drop the key options")
        with np.errstate(all="ignore"):
            self.units: Units = self._module.units(path, self._options)
        self.origin: dict[str, str] = self._module.provenance(path) if hasattr(self._module, "provenance") else {}
        self.counter = Counter()

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
        return _provenance(self)

    def __iter__(self) -> Iterator[Frame]:
        self._options, self.counter = self._options.fresh(), Counter()
        options, n_refused = self._options, 0
        try:
            for index, frame in enumerate(_quietly(self._module.read(self.path, options))):
                try:
                    with np.errstate(all="ignore"):
                        check_frame(frame, f"{self.path}: frame {index + options.log.n_skipped - n_refused}")
                except EqffError as error:
                    options.skip(error)
                    n_refused += 1
                    continue
                self.counter.add(frame)
                yield frame
        except DataError as error:
            if error.id == "EQ3025" or self.counter.n_frames == 0:
                raise
            options.stop(error)
        if self.counter.n_frames == 0:
            left_out = f" after {options.log.n_skipped} that were left out" if options.log.n_skipped else ""
            raise DataError("EQ3025", f"{self.path}: there are no frames to read{left_out}")
        self._suggest()

    def _suggest(self) -> None:
        """A label that no frame has, while another name looks like it, is asked for.  Raises: DataError EQ3200"""
        for label in ("energy", "forces"):
            names = [name for (kind, name), _ in self.log.candidates.most_common() if kind == label]
            if names and self.counter.labels[label] == 0:
                raise DataError(
                    "EQ3200",
                    f"{self.path}: no frame has {label} under a usual name, but {', '.join(map(repr, names[:6]))} "
                    f"looks like it; pass {label}_key (--{label}-key {names[0]}), or 'none' to leave it out",
                )


def read_frames(
    path: str | Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    skip_bad: bool = False,
    recover: bool = False,
    format: str | None = None,
) -> list[Frame]:
    """All frames of a file in eV and Å.

    Args:    path: .npz (MD17, sGDML, rMD17, QM9), .xyz or .extxyz, .h5 (eqff's store, TorchMD-Net, SPICE, ANI), .db, a
             DeePMD folder, or any file ASE reads;
             energy_unit, length_unit: needed where a file does not state them, e.g. "kcal/mol";
             energy_key, forces_key, stress_key: names of labels, "none" to leave one out;
             skip_bad: leave out frames that cannot be used; recover: keep the frames before damage;
             format: a name in data/formats
    Returns: frames, every number finite
    Raises:  DataError naming file and frame; ConfigError for an option that cannot be used
    """
    options = ReadOptions(
        energy_unit=energy_unit,
        length_unit=length_unit,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        skip_bad=skip_bad,
        recover=recover,
    )
    return read_source(path, options, format=format).frames


def read_source(path: str | Path, options: ReadOptions | None = None, *, format: str | None = None) -> Source:
    """As `read_frames`, with the report of what was decided."""
    stream = Stream(path, options, format=format)
    frames = list(stream)
    return Source(stream.path, stream.format, stream.sha256, stream.units, frames, stream.origin, stream.log)


def find_format(path: str | Path) -> str:
    """Name of the format of a file: by suffix and content, then by what accepts any file.

    Raises: DataError EQ3040 no format has the suffix, EQ3041 none recognises the content
    """
    problem: DataError | None = None
    try:
        named = candidates(path)
    except DataError as error:
        named, problem = {}, error
    particular = [name for name, module in named.items() if hasattr(module, "accepts") and module.accepts(path)]
    general = [name for name, module in named.items() if not hasattr(module, "accepts")]
    fallback = (n for n, module in _modules().items() if getattr(module, "FALLBACK", False) and module.accepts(path))
    for found in (particular, general, fallback):
        for name in found:
            return name
    raise problem or DataError("EQ3041", f"{path}: its content is none of {', '.join(named)}; {_content(path)}")


def candidates(path: str | Path) -> dict[str, ModuleType]:
    """Formats that have the suffix of a file, by name.  Raises: DataError EQ3040 if there is none"""
    path, modules = Path(path), _modules()
    suffix = "" if path.is_dir() else path.suffix.lower()
    named = {name: module for name, module in modules.items() if suffix in module.SUFFIXES}
    if not named:
        known = sorted({s for module in modules.values() for s in module.SUFFIXES} - {""})
        raise DataError("EQ3040", f"{path}: no format has the suffix {suffix!r}; use one of {' '.join(known)}")
    return named


def source_sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal; of a folder, over names and contents of its files."""
    path = Path(path)
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for member in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{member.relative_to(path).as_posix()} {file_sha256(member)}\n".encode())
    return digest.hexdigest()


@cache
def _modules() -> dict[str, ModuleType]:
    """All formats by name."""
    return {name: registry.load("data.formats", name) for name in registry.names("data.formats")}


def _quietly(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Without numpy's warnings about numbers that are not finite: those are refused, with their frame."""
    while True:
        with np.errstate(all="ignore"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _provenance(source: Source | Stream) -> dict[str, str]:
    return {
        "source": source.path.name,
        "source_sha256": source.sha256,
        "source_format": source.format,
        "source_energy_unit": f"{source.units.energy} ({source.units.energy_source})",
        "source_length_unit": f"{source.units.length} ({source.units.length_source})",
        **source.origin,
    }


def _content(path: str | Path) -> str:
    if Path(path).is_dir():
        return "a folder of DeePMD has type.raw and set.000"
    if Path(path).suffix.lower() != ".npz":
        return "pass format= (--from) to insist"
    return f"its arrays are {', '.join(sorted(npz_names(path))) or 'none'}"
