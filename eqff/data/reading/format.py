"""What a file format is: a file of eqff/data/formats that declares `FORMAT`; nothing else has to know about it.

    FORMAT = Format(summary="...", suffixes=(".abc",), read=read, units=units, accepts=accepts, write=write)

Every verb reads and writes through this registry, so a new format is one file there and one test.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from eqff import registry
from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError, DataError


class Reader(Protocol):
    """Yields the frames of a file, in eV and Å, in the order of the file."""

    def __call__(self, path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]: ...


class UnitsOf(Protocol):
    """Says which units a file is in, and how that was decided."""

    def __call__(self, path: str | Path, options: ReadOptions | None = None) -> Units: ...


class Writer(Protocol):
    """Writes frames, which are in eV and Å, to a path that does not exist yet."""

    def __call__(
        self, path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format: how it is recognised, read and written, and what a user may say about it.

    A file belongs to the formats that have its suffix.  Of those, one whose `accepts` says yes goes first, then one
    without `accepts`, then a fallback (which is asked about every file).
    """

    summary: str  # one line for `eqff data info --help` and the documentation
    suffixes: tuple[str, ...]  # lower case with the dot; "" stands for a folder
    read: Reader
    units: UnitsOf
    accepts: Callable[[str | Path], bool] | None = None  # examines the contents
    write: Writer | None = None  # None: the format is only read
    writes_folder: bool = False
    provenance: Callable[[str | Path], dict[str, str]] | None = None  # what the file says about its origin
    count: Callable[[str | Path], int] | None = None  # number of frames, if that costs much less than reading them
    takes_keys: bool = False  # whether the names of labels can be chosen
    skips: bool = False  # whether `read` begins with frame options.first
    fallback: bool = False
    kinds: Callable[[], list[str]] | None = None  # names that `format` may have as well: sorts of its files
    contents: str = ""  # what its files contain, for a file or folder that no format recognises


@cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    return {name: registry.load("data.formats", name).FORMAT for name in registry.names("data.formats")}


def format_named(name: str) -> Format:
    """One format.  Raises: ConfigError EQ1920 naming the formats that exist"""
    return formats()[format_of(name)]


def format_of(name: str) -> str:
    """The format that reads what is called `name`: a format, or a sort of file of one, e.g. one of ASE's formats.

    Raises: ConfigError EQ1920 naming the formats that exist, and names like this one
    """
    if name in formats():
        return name
    sorts = {sort: format for format, one in formats().items() if one.kinds is not None for sort in one.kinds()}
    if name in sorts:
        return sorts[name]
    near = difflib.get_close_matches(name, [*formats(), *sorts], n=3)
    guess = f"do you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(
        "EQ1920", f"there is no format {name!r}; {guess}choose from {', '.join(formats())}, or a format of ASE"
    )


def candidates(path: str | Path) -> dict[str, Format]:
    """Formats that have the suffix of a file, by name.  Raises: DataError EQ3040 if there is none"""
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    named = {name: format for name, format in formats().items() if suffix in format.suffixes}
    if not named:
        known = sorted({s for format in formats().values() for s in format.suffixes} - {""})
        raise DataError("EQ3040", f"{path}: no format has the suffix {suffix!r}; use one of {' '.join(known)}")
    return named


def find_format(path: str | Path) -> str:
    """Name of the format of a file.

    Raises: DataError EQ3040 no format has the suffix, EQ3041 no format recognises the contents
    """
    problem: DataError | None = None
    try:
        named = candidates(path)
    except DataError as error:
        named, problem = {}, error
    for name, format in named.items():
        if format.accepts is not None and format.accepts(path):
            return name
    for name, format in named.items():
        if format.accepts is None:
            return name
    for name, format in formats().items():
        if format.fallback and format.accepts is not None and format.accepts(path):
            return name
    raise problem or DataError(
        "EQ3041", f"{path}: its contents are none of {', '.join(named)}; {_expected(path, named)}"
    )


def table() -> str:
    """Every format, its suffixes and what it is, one line each."""
    rows = []
    for name, format in formats().items():
        suffixes = " ".join(suffix or "folder" for suffix in format.suffixes)
        rows.append((name, suffixes, format.summary + ("" if format.write is not None else " (only read)")))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:{widths[0]}}  {suffixes:{widths[1]}}  {summary}" for name, suffixes, summary in rows)


def _expected(path: str | Path, named: Mapping[str, Format]) -> str:
    from eqff.data.reading.npz import npz_names

    if Path(path).is_dir():
        return "; ".join(format.contents for format in named.values() if format.contents)
    if Path(path).suffix.lower() == ".npz":
        return f"its arrays are {', '.join(sorted(npz_names(path))) or 'none'}"
    return "name the format (format=, or --from on the command line) to insist"
