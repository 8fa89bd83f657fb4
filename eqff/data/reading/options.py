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
    names: Counter[tuple[str, str]] = field(default_factory=Counter)  # (label, its name in the file) -> frames
    candidates: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # (label, a name that looks like it) -> frames


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Units and label names of a data file; None means: as stated in the file, or by the convention of the format."""

    energy_unit: str | None = None  # a name in eqff.units.ENERGY
    length_unit: str | None = None  # a name in eqff.units.LENGTH
    energy_key: str | None = None  # "none" leaves the label out
    forces_key: str | None = None
    stress_key: str | None = None
    skip_bad: bool = False  # leave out frames that cannot be used, and count them
    recover: bool = False  # of a file that is damaged, keep the frames before the damage
    log: ReadLog = field(default_factory=ReadLog, compare=False, repr=False)

    @property
    def keys(self) -> tuple[str | None, str | None, str | None]:
        """Names of (energy, forces, stress) in the file, where told."""
        return self.energy_key, self.forces_key, self.stress_key

    def fresh(self) -> "ReadOptions":
        """The same options with an empty log: one for each pass over a file."""
        return replace(self, log=ReadLog())

    def skip(self, error: EqffError) -> None:
        """A frame cannot be used: counted if that is wanted, raised if not."""
        if not self.skip_bad:
            raise error
        self.log.n_skipped += 1
        if len(self.log.skipped) < N_MESSAGES:
            self.log.skipped.append(f"{error.id} {error.message}")

    def stop(self, error: EqffError) -> None:
        """The file is damaged from here on: noted if what came before is wanted, raised if not."""
        if not self.recover:
            raise error
        self.log.lost = f"{error.id} {error.message}"
