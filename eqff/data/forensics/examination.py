"""Run all checks of `eqff.data.checks` on a data set and collect their findings.

A check is a file with `check(subject) -> Iterator[Finding]`.  Where a check has nothing to test, its finding is
"not testable", never "pass".
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from eqff import registry
from eqff.data.forensics.diagnosis import Evidence, Fault, diagnose
from eqff.data.forensics.pair_model import PairModel, Prediction, fit_pair_model, temperature
from eqff.data.forensics.survey import Survey, survey
from eqff.data.forensics.work import Work, consecutive_work, neighbour_work
from eqff.data.frame import Census, Frame, census, check_frame, hill_formula
from eqff.data.splits import Split
from eqff.errors import DataError, EqffError

SEVERITIES = ("pass", "note", "not testable", "warning", "fail")  # from good to bad
NOBLE_GASES = (2, 10, 18, 36, 54, 86)
UNRELATED = 0.3  # below this correlation of work and energy, labels do not belong to their frames
CHANCE = 2.5  # times 1 / sqrt(n_pairs): correlations that arise by chance
EXPLAINED = 0.3  # least R2 of the pair model if forces belong to their atoms
N_PAIRS = 8  # fewest pairs of frames for a judgement
LEAST_ROOM = 1.0  # Å^3 per atom of a periodic structure; diamond has 5.7
N_FIT_FRAMES, N_FIT_ATOMS = 300, 15_000  # most frames, and most atoms in all, for the fit of the pair model


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check of one property."""

    check: str  # name of the file in data/checks
    severity: str  # one of SEVERITIES
    message: str
    remedy: str = ""  # what to do
    fault: str = ""  # short, stable name of the fault, e.g. "force unit"; empty if there is none
    numbers: dict[str, float] = field(default_factory=dict)
    frames: tuple[int, ...] = ()  # numbers of the frames concerned in the file, from 0
    curves: dict[str, np.ndarray] = field(default_factory=dict)  # data for pictures


class Subject:
    """Frames under examination, and measurements that several checks need, made once at first use.

    Args: name: for messages; frames: eV, Å, as read, good or bad; against: frames to compare with, e.g. the training
          set if these are the test set; rows: numbers of the frames in their file, None if they are the whole file
    """

    def __init__(
        self,
        name: str,
        frames: Sequence[Frame],
        against: "Subject | None" = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self.n_frames = len(frames)
        self.against = against
        self.bad: dict[int, EqffError] = {}
        good = []
        for number, frame in enumerate(frames):
            try:
                check_frame(frame, f"frame {number}")
                _check_density(frame, number)
            except EqffError as error:
                self.bad[number] = error
            else:
                good.append(number)
        self.numbers = np.array(good, dtype=np.int64) if rows is None else rows[good]  # of the good frames, in the file
        self.frames = [frames[number] for number in good]

    @cached_property
    def census(self) -> Census:
        """Labels and compositions of the good frames."""
        return census(self.frames)

    @cached_property
    def species(self) -> np.ndarray:
        """Atomic numbers that occur in these frames or in those of `against`, ascending."""
        frames = self.frames + (self.against.frames if self.against is not None else [])
        return np.unique(np.concatenate([f.atomic_numbers for f in frames])) if frames else np.zeros(0, dtype=np.int64)

    @cached_property
    def formulas(self) -> np.ndarray:
        """[n_good] composition of each frame."""
        return np.array([hill_formula(frame.atomic_numbers) for frame in self.frames], dtype=object)

    @cached_property
    def counts(self) -> np.ndarray:
        """[n_good, n_species] atoms of each element."""
        return np.array([[np.sum(f.atomic_numbers == z) for z in self.species] for f in self.frames], dtype=float)

    @cached_property
    def survey(self) -> Survey:
        """Distances and fingerprints of all good frames."""
        return survey(self.frames, self.species)

    @cached_property
    def sample(self) -> list[int]:
        """Rows of good frames with forces, spread over the file: the pair model is fitted to these."""
        rows = [row for row, frame in enumerate(self.frames) if frame.forces is not None]
        if not rows:
            return []
        mean = float(np.mean([len(self.frames[row].atomic_numbers) for row in rows]))
        n = min(len(rows), N_FIT_FRAMES, max(20, int(N_FIT_ATOMS / mean)))
        return [rows[i] for i in np.linspace(0, len(rows) - 1, n).astype(int)]

    @cached_property
    def sample_frames(self) -> list[Frame]:
        """Frames of the sample."""
        return [self.frames[row] for row in self.sample]

    @cached_property
    def model(self) -> PairModel | None:
        """Fitted to the forces of the sample; None if there are none."""
        return fit_pair_model(self.sample_frames)

    @cached_property
    def predictions(self) -> list[Prediction]:
        """Predictions of the pair model for the sample."""
        return [] if self.model is None else [self.model.predict(frame) for frame in self.sample_frames]

    @cached_property
    def temperature(self) -> float | None:
        """Temperature of forces and positions in K; None if the pair model does not explain the forces (EXPLAINED)."""
        if self.model is None or self.model.force_r2 < EXPLAINED:
            return None
        return temperature(self.sample_frames, self.predictions)

    @cached_property
    def consecutive(self) -> Work | None:
        """Work between consecutive frames; None if they are too far apart."""
        return consecutive_work(self.frames)

    @cached_property
    def neighbours(self) -> Work | None:
        """Work between the nearest frames of the sample; rows are those of the sample."""
        return None if self.model is None else neighbour_work(self.sample_frames, self.predictions)

    @cached_property
    def bond(self) -> float | None:
        """Median of the nearest distance over the sum of covalent radii; None for single atoms and noble gases."""
        has_noble_gas = np.isin(self.species, NOBLE_GASES).any()
        measured = self.survey.bond[np.isfinite(self.survey.bond)]
        return None if has_noble_gas or measured.size == 0 else float(np.median(measured))

    @cached_property
    def evidence(self) -> Evidence:
        """Measurements of units and signs."""
        work = self.consecutive if self.consecutive is not None and self.consecutive.complete else self.neighbours
        usable = work is not None and work.n_pairs >= N_PAIRS and not unrelated(work)
        spread = 0.0
        if usable and work is not None:
            along = work is self.consecutive
            spread = (0.03 if along else 0.12) + 0.6 * (1.0 - abs(work.correlation))
        return Evidence(
            slope=work.slope if usable and work is not None else None,
            slope_spread=spread,
            temperature=self.temperature,
            bond=self.bond,
            n_atoms=float(self.counts.sum(axis=1).mean()),
        )

    @cached_property
    def diagnosis(self) -> Fault:
        """The most likely fault of units and signs; its name is empty if there is none."""
        return diagnose(self.evidence)

    def file_frames(self, rows: Iterable[int]) -> tuple[int, ...]:
        """Numbers in the file of these rows of good frames."""
        return tuple(int(self.numbers[row]) for row in rows)


@dataclass(frozen=True)
class Report:
    """All findings on one data set."""

    name: str
    census: Census
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """The worst severity; "not testable" does not count."""
        severities = {finding.severity for finding in self.findings} - {"not testable"}
        return max(severities, key=SEVERITIES.index, default="pass")

    @property
    def faults(self) -> list[str]:
        """Names of the faults of warnings and failures, in order, without repetition."""
        wrong = (f.fault or f.check for f in self.findings if f.severity in ("warning", "fail"))
        return list(dict.fromkeys(wrong))


def check_frames(
    frames: Sequence[Frame],
    against: Sequence[Frame] | None = None,
    *,
    name: str = "frames",
    against_name: str = "the other frames",
    damage: DataError | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run all checks on frames.

    Args:    frames: eV, Å, also those that `check_frame` refuses; against: frames that must not be among them, e.g.
             those a potential was trained on; name, against_name: for messages; damage: of the file, after these
             frames; progress: called with the name of a check before it runs
    Returns: all findings, the worst first
    Raises:  DataError EQ3400 if there are no frames
    """
    if not frames:
        raise DataError("EQ3400", f"{name}: n_frames=0, expected at least one; give a file with frames")
    other = None if against is None else Subject(against_name, against)
    subject = Subject(name, frames, other)
    findings: list[Finding] = []
    if damage is not None:
        remedy = "download or write it again; --recover of the other commands keeps the frames before the damage"
        findings.append(
            Finding(check="frames", severity="fail", fault="damaged file", message=damage.message, remedy=remedy)
        )
    for check_name in registry.names("data.checks"):
        if progress is not None:
            progress(check_name)
        if subject.frames or check_name == "frames":
            findings += registry.load("data.checks", check_name).check(subject)
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return Report(name, subject.census, findings)


def check_split(report: Report, frames: Sequence[Frame], split: Split) -> Report:
    """Add findings about frames that validation and test share with training.

    Args:    report: of `frames`; frames: of the whole file; split: of that file
    Returns: a new report
    Raises:  DataError EQ3402 if the split has another number of frames
    """
    if split.n_frames != len(frames):
        raise DataError(
            "EQ3402",
            f"{report.name}: n_frames={len(frames)}, expected {split.n_frames} of the split; split this file again",
        )
    findings = list(report.findings)
    training = Subject("training", [frames[i] for i in split.train], rows=split.train)
    for part in ("validation", "test"):
        rows = getattr(split, part)
        if len(rows):
            subject = Subject(part, [frames[i] for i in rows], training, rows=rows)
            shared = registry.load("data.checks", "leakage").check(subject)
            findings += [replace(finding, message=f"{part}: {finding.message}") for finding in shared]
    return Report(report.name, report.census, sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity)))


def unrelated(work: Work) -> bool:
    """Whether the correlation is as low as that of labels from other frames."""
    return abs(work.correlation) < max(UNRELATED, min(CHANCE / work.n_pairs**0.5, 0.6))


def _check_density(frame: Frame, number: int) -> None:
    """Refuse cells too small for any matter: millions of images would be within reach."""
    if not frame.pbc.all():
        return
    room = abs(float(np.linalg.det(frame.cell))) / len(frame.atomic_numbers)
    if room < LEAST_ROOM:
        raise DataError(
            "EQ3401",
            f"frame {number}: the cell has {room:.3g} Å^3 per atom, expected at least {LEAST_ROOM:g}; lengths are "
            "probably in another unit, e.g. nm: say so with --length-unit",
        )
