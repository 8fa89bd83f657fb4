"""Frames of one part of a data set that also occur in another part."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from eqff.data.forensics.copies import copies
from eqff.data.forensics.examination import Finding, Subject
from eqff.data.forensics.survey import survey
from eqff.data.forensics.work import STEP, displacements

N_NEIGHBOURS = 6
SOME, MOST = 0.02, 0.5  # shares of neighbours in time: warning, failure


def check(subject: Subject) -> Iterator[Finding]:
    """Find copies, almost copies and neighbours in time between these frames and those of `against`."""
    other = subject.against
    if other is None or not other.frames:
        return
    prints = survey(other.frames, subject.species, subject.survey.scale).fingerprint
    shared = copies(subject.frames, subject.survey.fingerprint, subject.species, (other.frames, prints))
    n, copied = len(subject.frames), set()
    for pairs, what in ((shared.equal, "are also in"), (shared.near, "are almost copies of frames in")):
        rows = np.unique(pairs[:, 0]) if len(pairs) else np.zeros(0, dtype=int)
        copied.update(rows.tolist())
        if rows.size:
            example = f"frame {subject.file_frames([pairs[0][0]])[0]} is {other.file_frames([pairs[0][1]])[0]} there"
            exact = what == "are also in"
            yield Finding(
                check="leakage",
                severity="fail" if exact or rows.size > SOME * n else "note",
                fault="leakage" if exact or rows.size > SOME * n else "",
                message=f"{rows.size} of {n} frames {what} {other.name}; {example}",
                remedy="remove them from one of the two; errors on them say nothing about new structures",
                numbers={"n_known": rows.size, "share": rows.size / n},
                frames=subject.file_frames(rows),
            )
    yield _in_time(subject, prints, copied)


def _in_time(subject: Subject, prints: np.ndarray, copied: set[int]) -> Finding:
    """Frames so close to a frame of the other part that they are its neighbours in time; copies are left out."""
    other = subject.against
    assert other is not None
    k = min(N_NEIGHBOURS, len(other.frames))
    _, nearest = cKDTree(prints).query(subject.survey.fingerprint, k=k)
    rows = []
    for row, candidates in enumerate(np.asarray(nearest).reshape(len(subject.frames), k)):
        frame = subject.frames[row]
        moved = [displacements(frame, other.frames[c]) for c in candidates]
        largest = min((float(np.linalg.norm(m, axis=1).max()) for m in moved if m is not None), default=np.inf)
        if largest < STEP and row not in copied:
            rows.append(row)
    n = len(subject.frames)
    share = len(rows) / n
    text = f"{len(rows)} of {n} frames ({100 * share:.2g} %) are within {STEP} Å of a frame in {other.name}"
    remedy = "split in blocks of time, or by trajectory: neighbours in time make test errors look better than they are"
    severity = "fail" if share > MOST else "warning" if share > SOME else "note" if rows else "pass"
    return Finding(
        check="leakage",
        severity=severity,
        fault="neighbours in time" if share > SOME else "",
        message=text + (": one part is interleaved with the other" if share > MOST else ""),
        remedy=remedy if rows else "",
        numbers={"n_near": len(rows), "share": share},
        frames=subject.file_frames(rows),
    )
