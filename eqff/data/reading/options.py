"""What a caller may say about a file that the file does not say itself, and what reading it had to pass over."""

from collections import Counter
from dataclasses import dataclass, field, replace

from eqff.errors import EqffError

N_MESSAGES = 20  # messages kept of frames that were skipped; all are counted


@dataclass
class ReadLog:
    """What happened while a file was read."""

    n_skipped: int = 0  # frames left out because they cannot be used (--skip-bad)
    skipped: list[str] = field(default_factory=list)  # why, for the first of them
    lost: str | None = None  # why reading ended before the end of the file (--recover)
    unlabelled: str | None = None  # why labels of a structure were not understood, for the first such structure
    names: Counter[tuple[str, str]] = field(default_factory=Counter)  # (label, its name in the file) -> frames
    notes: Counter[str] = field(default_factory=Counter)  # what was decided about labels, in words -> frames
    candidates: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # (label, a name that looks like it) -> frames


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Format, units, label names and frames of a data file; None: as the file states, or by the format's convention."""

    format: str | None = None  # a name in data/formats
    index: str | None = None  # frames to read: "0", "-1", "2:5", "::10"; None: all
    energy_unit: str | None = None  # a name in eqff.units.ENERGY
    length_unit: str | None = None  # a name in eqff.units.LENGTH
    force_unit: str | None = None  # energy/length, e.g. "Hartree/Bohr"; None: of energies and lengths
    stress_unit: str | None = None  # "GPa", "kbar", "eV/Å^3" ...; None: of energies and lengths
    stress_order: str | None = None  # "voigt" or "vasp", see `eqff.data.reading.stress`
    energy_key: str | None = None  # "none" leaves the label out
    forces_key: str | None = None
    stress_key: str | None = None
    types: str | None = None  # elements of the types of LAMMPS: "Si,O" or "1=Si,3=O"
    skip_bad: bool = False  # leave out frames that cannot be used, and count them
    recover: bool = False  # of a file that is damaged, keep the frames before the damage
    structures: bool = False  # structures are wanted: frames keep all that the file says, labels may be missing
    first: int = 0  # for formats that can begin there
    log: ReadLog = field(default_factory=ReadLog, compare=False, repr=False)

    @property
    def about_labels(self) -> dict[str, str]:
        """Options that only formats with labels under chosen names obey."""
        names = ("energy_key", "forces_key", "stress_key", "force_unit", "stress_unit", "stress_order")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def keys(self) -> tuple[str | None, str | None, str | None]:
        """Names of (energy, forces, stress) in the file, where the caller gave them."""
        return self.energy_key, self.forces_key, self.stress_key

    def fresh(self) -> "ReadOptions":
        """The same options with an empty log: one for each pass over a file."""
        return replace(self, log=ReadLog())

    def skip(self, error: EqffError) -> None:
        """Count a frame that cannot be used, or raise the error if bad frames are not to be skipped."""
        if not self.skip_bad:
            raise error
        self.log.n_skipped += 1
        if len(self.log.skipped) < N_MESSAGES:
            self.log.skipped.append(f"{error.id} {error.message}")

    def stop(self, error: EqffError) -> None:
        """Note that the file is damaged from here on, or raise the error if the frames before are not wanted."""
        if not self.recover:
            raise error
        self.log.lost = f"{error.id} {error.message}"
