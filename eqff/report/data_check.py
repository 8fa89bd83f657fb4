"""The page of `eqff data check`: findings and pictures of a data set, from plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eqff.report import html, plots
from eqff.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

KINDS = {"pass": "good", "note": "plain", "not testable": "plain", "warning": "doubt", "fail": "bad"}
MANY = 3000  # points, above which their density is drawn
GPA = 160.21766208  # 1 eV/Å^3

Curves = Mapping[str, np.ndarray]


def data_check_page(
    title: str,
    verdict: str,
    facts: Sequence[tuple[str, str]],
    findings: Sequence[Mapping[str, Any]],
    curves: Curves,
    footer: str = "",
) -> str:
    """One self-contained page.

    Args: verdict: the worst severity; facts: (name, text) about file, units, contents; findings: check, severity,
          message, remedy, frames, numbers; curves: name -> array, as PICTURES reads them
    """
    rows = [(html.tag(f["severity"], KINDS[f["severity"]]), f["check"].replace("_", " "), _words(f)) for f in findings]
    numbers = [
        (f["check"].replace("_", " "), name.replace("_", " "), float(value))
        for f in findings
        for name, value in f["numbers"].items()
        if np.isfinite(value)
    ]
    counts = {name: sum(f["severity"] == name for f in findings) for name in KINDS}
    summary = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    sections = [
        ("", [html.tag(verdict, KINDS[verdict]), html.paragraph(summary), html.table(("", ""), facts)]),
        ("Findings", [html.table(("", "check", "what was found"), rows)]),
        ("Pictures", [html.image(png, caption) for png, caption in _pictures(curves)]),
        ("Numbers", [html.table(("check", "number", "value"), numbers)]),
    ]
    return html.page(title, [(heading, pieces) for heading, pieces in sections if pieces], footer=footer)


def _words(finding: Mapping[str, Any]) -> str:
    text = str(finding["message"])
    if finding["remedy"]:
        text += f"\nWhat to do: {finding['remedy']}"
    if finding["frames"]:
        shown = ", ".join(str(n) for n in finding["frames"][:20])
        more = f" and {len(finding['frames']) - 20} more" if len(finding["frames"]) > 20 else ""
        text += f"\nFrames: {shown}{more}"
    return text


def _pictures(curves: Curves) -> list[tuple[bytes, str]]:
    """PNGs with captions, of the values that exist."""
    pictures = []
    for caption, panels in PICTURES:
        shown = [(draw, names, labels) for draw, names, labels in panels if all(len(curves.get(n, ())) for n in names)]
        if not shown:
            continue
        figure = plots._figure(3.7 * len(shown), 3.3)
        for axes, (draw, names, labels) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            draw(axes, *(np.asarray(curves[name], dtype=float) for name in names), *labels)
            axes.grid(True, color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        pictures.append((html.figure_png(figure), caption))
    return pictures


def _against(axes: Any, one: np.ndarray, other: np.ndarray, x_label: str, y_label: str, factor: float = 1.0) -> None:
    """Points that should lie on the diagonal."""
    one, other = one * factor, other * factor
    if len(one) > MANY:
        axes.hexbin(one, other, gridsize=60, bins="log", cmap="viridis", mincnt=1, linewidths=0.0)
    else:
        axes.plot(one, other, ".", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0.0)
    # separate axes: with labels in a wrong unit, one set would be a line at zero
    low, high = float(np.quantile(one, 0.001)), float(np.quantile(one, 0.999))
    axes.plot([low, high], [low, high], color="black", linewidth=0.8, label="equal")
    slope = float(one @ other / (one @ one)) if one.any() else 0.0
    axes.plot([low, high], [slope * low, slope * high], color=VERMILION, linewidth=1.2, label=f"slope {slope:.3g}")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    plots._legend_above(axes)


def _histogram(axes: Any, values: np.ndarray, label: str, colour: str, factor: float = 1.0) -> None:
    values = values[np.isfinite(values)] * factor
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) > 1000 else (values.min(), values.max())
    inside = values[(values >= low) & (values <= high)]
    axes.hist(inside, bins=min(60, max(8, len(inside) // 8)), color=colour)
    outside = len(values) - len(inside)
    axes.set_xlabel(label)
    axes.set_ylabel(f"frames ({outside} outside)" if outside else "frames")


def _sequence(axes: Any, values: np.ndarray, label: str, colour: str) -> None:
    median = float(np.median(values))
    axes.plot(np.arange(len(values)), values - median, ".", color=colour, markersize=2.5, markeredgewidth=0.0)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_xlabel("frame")
    axes.set_ylabel(label)


PICTURES: tuple[tuple[str, tuple[tuple[Any, tuple[str, ...], tuple[Any, ...]], ...]], ...] = (
    (
        "Work against energy: slope 1 means that energies, forces and positions fit each other. Left along frames that "
        "follow each other, right between the most similar frames.",
        (
            (_against, ("work_along", "change_along"), ("−F·dx along the file (eV)", "dE (eV)")),
            (_against, ("work_between", "change_between"), ("−F·dx between similar frames (eV)", "dE (eV)")),
        ),
    ),
    (
        "Stress against strained copies, and against a pair model of the forces.",
        (
            (_against, ("strain_work", "strain_change"), ("V stress : d strain (eV)", "dE (eV)")),
            (_against, ("stress_model", "stress"), ("stress of a pair model (GPa)", "stress label (GPa)", GPA)),
        ),
    ),
    (
        "Energies per atom, references taken off, in order and distributed: steps and lone points are suspicious.",
        (
            (_sequence, ("energy",), ("energy − median (eV/atom)", BLUE)),
            (_histogram, ("energy",), ("energy (meV/atom)", BLUE, 1e3)),
        ),
    ),
    (
        "Largest force of each frame, and shortest distance in sums of covalent radii.",
        (
            (_histogram, ("force",), ("largest force (eV/Å)", ORANGE)),
            (_histogram, ("over_covalent",), ("shortest distance / covalent radii", GREEN)),
        ),
    ),
    (
        "Noise of force components, from forces and torques on the whole: the floor of what can be learnt.",
        (
            (_histogram, ("net_force",), ("noise from net force (meV/Å)", PURPLE, 1e3)),
            (_histogram, ("net_torque",), ("noise from net torque (meV/Å)", SKY, 1e3)),
        ),
    ),
)
