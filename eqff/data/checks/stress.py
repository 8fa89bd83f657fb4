"""Unit, sign and order of the stress, from strained copies and from a pair model of the forces."""

import math
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import numpy as np

from eqff import units
from eqff.data.forensics.examination import N_PAIRS, Finding, Subject
from eqff.data.forensics.strain import strain_work, volume

GPA, KBAR = 1.0 / units.GPA, 10.0 / units.GPA  # 1 eV/Å^3 in GPa and in kBar
RELATED = 0.7  # correlation with a pair model, below it the labels are no stress of these frames
SPREAD = 0.5  # of the logarithm of the slope, for a correct stress
PRICE = 6.0  # prior against a fault


class Kind(NamedTuple):
    """What the labels may be instead of a stress in eV/Å^3."""

    fault: str
    message: str
    remedy: str
    factor: float  # label = factor * stress
    times_volume: bool = False


SIGN = "multiply it by -1"
KINDS = (
    Kind("", "a stress in eV/Å^3 with the sign of ASE", "", 1.0),
    Kind("stress sign", "the stress has the wrong sign (pressure is negative stress)", SIGN, -1.0),
    Kind("stress unit", "the stress is in GPa", f"divide it by {GPA:.6g}", GPA),
    Kind("stress unit", "the stress is in kBar", f"divide it by {KBAR:.6g}", KBAR),
    Kind("stress unit and sign", "it is in GPa with the sign of a pressure", f"divide it by {-GPA:.6g}", -GPA),
    Kind("stress unit and sign", "the stress is in kBar with the sign of VASP", f"divide it by {-KBAR:.6g}", -KBAR),
    Kind(
        "virial for stress", "this is the virial (eV)", "name it virial in the file, or divide by -volume", -1.0, True
    ),
    Kind("virial for stress", "this is stress times volume (eV)", "divide it by the volume", 1.0, True),
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find out what the stress labels are; not testable where nothing depends on them."""
    rows = [i for i, f in enumerate(subject.sample_frames) if f.stress is not None and f.pbc.all()]
    if not subject.census.labels["stress"]:
        if subject.census.periodic:
            yield Finding(check="stress", severity="not testable", message="periodic frames without stress labels")
        return
    if subject.diagnosis.name:
        message = f"{subject.diagnosis.message}: stress cannot be tested against such labels"
        yield Finding(check="stress", severity="not testable", message=message)
        return
    yield from _strained(subject)
    if subject.model is None or len(rows) < N_PAIRS:
        message = "stress against forces: fewer than 8 periodic frames with both"
        yield Finding(check="stress", severity="not testable", message=message)
        return
    yield from _against_forces(subject, rows)


def _strained(subject: Subject) -> Iterator[Finding]:
    work = strain_work(subject.sample_frames)
    if work is None or work.n_pairs < N_PAIRS:
        message = "stress against strain: there are no strained copies of a structure"
        yield Finding(check="stress", severity="not testable", message=message)
        return
    volumes = np.array([volume(subject.sample_frames[i]) for i in work.first])
    candidates = [
        (k, work.change, work.work / k.factor / (volumes if k.times_volume else 1.0)) for k in KINDS
    ]  # the stress if labels were of this kind
    kind, _, correlation = _best(candidates, 0.05)
    numbers = {"slope": float(work.slope), "correlation": work.correlation, "n_pairs": work.n_pairs}
    text = f"V stress : d strain against dE of {work.n_pairs} pairs of strained copies: slope {work.slope:.4g}, "
    text += f"correlation {work.correlation:.4f}"
    yield _judged(kind, text, correlation, numbers, {"strain_work": work.work, "strain_change": work.change})


def _against_forces(subject: Subject, rows: list[int]) -> Iterator[Finding]:
    frames = [subject.sample_frames[i] for i in rows]
    label = np.array([np.asarray(frame.stress, dtype=float) for frame in frames])
    volumes = np.array([volume(frame) for frame in frames])[:, None]
    model = np.array([subject.predictions[i].virial for i in rows]) / volumes
    candidates = []
    for kind in KINDS:
        stress = label / kind.factor / (volumes if kind.times_volume else 1.0)
        candidates.append((kind, _centred(stress), _centred(model)))
    kind, _, correlation = _best(candidates, SPREAD)
    _, one, other = candidates[0]
    plain = float(one @ other / (other @ other))
    together = _correlation(one, other)
    numbers = {"slope": plain, "correlation": together, "n_frames": len(rows)}
    text = f"stress against that of a pair model of the forces: slope {plain:.3g}, correlation {together:.3f}"
    curves = {"stress": one, "stress_model": other}
    yield _judged(kind, text, correlation, numbers, curves)
    order = _order(label[:, 3:], model[:, 3:])
    if order:
        yield Finding(
            check="stress",
            severity="fail",
            fault="stress order",
            message=f"the shear stresses are in {order}, not in Voigt's (yz xz xy)",
            remedy="exchange the last three numbers of every stress",
        )


def _judged(
    kind: Kind, text: str, correlation: float, numbers: dict[str, float], curves: dict[str, np.ndarray]
) -> Finding:
    if abs(correlation) < RELATED:
        return Finding(
            check="stress",
            severity="fail",
            fault="stress of other frames",
            message=f"{text}: expected a correlation above {RELATED:g}",
            remedy="check how the arrays were assembled, and the order of the six numbers",
            numbers=numbers,
            curves=curves,
        )
    if kind.fault:
        return Finding(
            check="stress",
            severity="fail",
            fault=kind.fault,
            message=f"{text}: {kind.message}",
            remedy=kind.remedy,
            numbers=numbers,
            curves=curves,
        )
    return Finding(check="stress", severity="pass", message=text, numbers=numbers, curves=curves)


def _best(candidates: list[tuple[Kind, np.ndarray, np.ndarray]], spread: float) -> tuple[Kind, float, float]:
    """The kind with the slope nearest to 1 and the best correlation: (kind, slope, correlation)."""
    scored = []
    for kind, one, other in candidates:
        slope, correlation = float(one @ other / (other @ other)), _correlation(one, other)
        width = spread + 0.6 * (1.0 - abs(correlation))
        distance = (math.log(slope) / width) ** 2 if slope > 0 else math.inf
        scored.append(
            (distance + 30.0 * (1.0 - correlation) + (PRICE if kind.fault else 0.0), kind, slope, correlation)
        )
    _, kind, slope, correlation = min(scored, key=lambda score: score[0])
    return kind, slope, correlation


def _centred(values: np.ndarray) -> np.ndarray:
    """Deviations from the mean, as a pair model of forces does not determine the mean pressure."""
    return (values - values.mean(axis=0)).ravel()


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    norm = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / norm if norm > 0 else 0.0


def _order(label: np.ndarray, model: np.ndarray) -> str:
    """The order of the shear stresses if one other than Voigt's fits much better, else empty."""
    if len(label) < 20:
        return ""
    fit = {}
    for order in permutations(range(3)):  # label[:, i] is component order[i] of the model
        pairs = [_correlation(_centred(label[:, i]), _centred(model[:, k])) for i, k in enumerate(order)]
        fit[order] = abs(float(np.mean(pairs)))
    best = max(fit, key=lambda order: fit[order])
    if best == (0, 1, 2) or fit[best] < 0.6 or fit[best] < fit[(0, 1, 2)] + 0.4:
        return ""
    names = [("yz", "xz", "xy")[k] for k in best]
    return f"the order xx yy zz {' '.join(names)}"
