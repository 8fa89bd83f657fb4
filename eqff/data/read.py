"""The front door: any data file to frames, its format found by suffix and content, its units settled and reported."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from eqff import registry
from eqff.data.arrays import npz_names
from eqff.data.frame import Census, Frame, census, check_frame
from eqff.data.options import ReadOptions
from eqff.data.units import Units
from eqff.errors import ConfigError, DataError


@dataclass(frozen=True)
class Source:
    """A file that was read: its frames and what was decided while reading."""

    path: Path
    format: str
    sha256: str  # of the file
    units: Units
    frames: list[Frame]
    origin: dict[str, str] = field(default_factory=dict)  # what the file itself says of where it came from

    @property
    def census(self) -> Census:
        """Frames, labels and compositions, counted."""
        return census(self.frames)

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


def read_frames(
    path: str | Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    format: str | None = None,
) -> list[Frame]:
    """All frames of a file in eV and Å.

    Args:    path: .npz (MD17, sGDML, rMD17), .xyz or .extxyz, .h5 (eqff's store);
             energy_unit, length_unit: needed where a file does not state them, e.g. "kcal/mol";
             energy_key, forces_key, stress_key: names of labels in extended XYZ; format: a name in data/formats
    Returns: frames, every number finite
    Raises:  DataError naming file and frame; ConfigError for an option that cannot be used
    """
    options = ReadOptions(
        energy_unit=energy_unit,
        length_unit=length_unit,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    return read_source(path, options, format=format).frames


def read_source(path: str | Path, options: ReadOptions | None = None, *, format: str | None = None) -> Source:
    """As `read_frames`, with the report of what was decided."""
    path = Path(path)
    options = options or ReadOptions()
    if not path.is_file():
        reason = "is a folder; give a file" if path.is_dir() else "no such file"
        raise DataError("EQ3024", f"{path}: {reason}")
    if path.stat().st_size == 0:
        raise DataError("EQ3025", f"{path}: the file is empty")
    name = format or find_format(path)
    module = registry.load("data.formats", name)
    if any(options.keys) and not getattr(module, "TAKES_KEYS", False):
        raise ConfigError("EQ1030", f"{path}: label names cannot be chosen in format {name}; drop the key options")
    units = module.units(path, options)
    frames = list(module.read(path, options))
    if not frames:
        raise DataError("EQ3025", f"{path}: there are no frames to read")
    for index, frame in enumerate(frames):
        check_frame(frame, f"{path}: frame {index}")
    origin = module.provenance(path) if hasattr(module, "provenance") else {}
    return Source(path, name, file_sha256(path), units, frames, origin)


def find_format(path: str | Path) -> str:
    """Name of the format of a file: by suffix, then by content.

    Raises: DataError EQ3040 no format has the suffix, EQ3041 none recognises the content
    """
    named = candidates(path)
    found = [name for name, module in named.items() if _accepts(module, path)]
    if not found:
        raise DataError("EQ3041", f"{path}: its content is none of {', '.join(named)}; {_content(path)}")
    return found[0]


def candidates(path: str | Path) -> dict[str, ModuleType]:
    """Formats that have the suffix of a file, by name.  Raises: DataError EQ3040 if there is none"""
    suffix = Path(path).suffix.lower()
    modules = {name: registry.load("data.formats", name) for name in registry.names("data.formats")}
    named = {name: module for name, module in modules.items() if suffix in module.SUFFIXES}
    if not named:
        known = sorted({s for module in modules.values() for s in module.SUFFIXES})
        raise DataError("EQ3040", f"{path}: no format has the suffix {suffix!r}; use one of {' '.join(known)}")
    return named


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _accepts(module: ModuleType, path: str | Path) -> bool:
    return module.accepts(path) if hasattr(module, "accepts") else True


def _content(path: str | Path) -> str:
    if Path(path).suffix.lower() != ".npz":
        return "pass format= to insist"
    return f"its arrays are {', '.join(sorted(npz_names(path))) or 'none'}"
