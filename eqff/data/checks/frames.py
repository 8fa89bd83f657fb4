"""Numbers that are not finite, arrays of the wrong shape, impossible structures."""

from collections.abc import Iterator

from eqff.data.forensics.examination import Finding, Subject
from eqff.errors import EqffError


def check(subject: Subject) -> Iterator[Finding]:
    """List the frames that `check_frame` refuses, by reason."""
    if not subject.bad:
        yield Finding(
            check="frames",
            severity="pass",
            message=f"all numbers of {subject.n_frames} frames are finite, and all arrays have the right shape",
            numbers={"n_frames": subject.n_frames},
        )
        return
    by_reason: dict[str, list[int]] = {}
    for number, error in subject.bad.items():
        by_reason.setdefault(error.id, []).append(number)
    for numbers in by_reason.values():
        first = subject.bad[numbers[0]]
        yield Finding(
            check="frames",
            severity="fail",
            fault=_fault(first),
            message=f"{len(numbers)} of {subject.n_frames} frames cannot be used; the first: {first.message}",
            remedy="remove or repair these frames; the other checks leave them out",
            numbers={"n_bad": len(numbers)},
            frames=tuple(numbers),
        )


def _fault(error: EqffError) -> str:
    if error.id == "EQ3401":
        return "length unit"
    words = ("nan", "inf", "not finite")
    return "not finite" if any(word in error.message for word in words) else "unusable frames"
