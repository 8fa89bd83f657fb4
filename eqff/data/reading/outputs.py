"""Outputs of electronic-structure programs: steps whose labels are no labels.

left out   machine-learned steps of VASP, steps whose electronic loop did not converge, a last step that is cut off
refused    other programs' files of one frame that say that they did not converge; files of several get a note
"""

import contextlib
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

LEARNED = "steps left out: their energies and forces are those of VASP's machine-learned force field"
UNCONVERGED = "steps left out: their electronic loop did not converge"
CUT_OFF = "step left out: the file ends within it"
DOUBTFUL = "times the file says that the electronic structure did not converge: look at these frames"
END = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"  # of a step in an OUTCAR
AFTER_END = 4  # lines that belong to the step
CALCULATION = "calculation"  # a step in a vasprun.xml
# what programs write about a calculation that did not converge
MARKS = {
    "espresso-out": "convergence NOT achieved",
    "aims-output": "Self-consistency cycle not yet converged",
    "gaussian-out": "Convergence failure -- run terminated",
    "orca-output": "SCF NOT CONVERGED",
    "nwchem-out": "Calculation failed to converge",
}


def outcar(path: str | Path, options: ReadOptions) -> Iterator[Any]:
    """ase.Atoms of the steps of an OUTCAR; where structures are wanted, all of them, without doubtful labels.

    Raises: what ASE's parsers meet in a damaged file
    """
    from ase.io import ParseError
    from ase.io.vasp_parsers import vasp_outcar_parsers as vasp

    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            lines = vasp.build_header(file)
        except ParseError:  # no electronic loop at all
            file.seek(0)
            learned = sum(END in line for line in file)
            if not learned:
                raise
            options.log.notes[LEARNED] += learned
            return
        limit = re.search(r"NELM\s*=\s*(\d+)", "".join(lines))
        most = int(limit[1]) if limit else 0
        header = vasp.OutcarHeaderParser(workdir=Path(path).parent).build(lines)
        iterations = 1  # the header ends with the first
        while True:
            step, complete = _step(file)
            iterations += sum("Iteration" in line for line in step)
            if not complete:
                if iterations:
                    options.log.notes[CUT_OFF] += 1
                return
            reason = _reason(step, iterations, most)
            iterations = 0
            if not reason:
                yield vasp.OUTCARChunk(step, header).build()
            elif options.structures:
                places = vasp.OutcarChunkParser(parsers=[vasp.Cell(), vasp.PositionsAndForces()])
                atoms = vasp.OUTCARChunk(step, header, parser=places).build()
                atoms.calc = None
                yield atoms
            else:
                options.log.notes[reason] += 1


def _step(file: Any) -> tuple[list[str], bool]:
    """(lines up to the end of a step, whether it ends)."""
    lines: list[str] = []
    for line in file:
        lines.append(line)
        if END in line:
            rest = list(islice(file, AFTER_END))
            return lines + rest, len(rest) == AFTER_END
    return lines, False


def _reason(step: list[str], iterations: int, most: int) -> str:
    """Why a step is no label; "" if it is one."""
    text = "".join(step)
    if "ML FREE ENERGIE" in text or "ML TOTEN" in text:
        return LEARNED
    if "EDIFF was not reached" in text or (0 < most <= iterations and "EDIFF is reached" not in text):
        return UNCONVERGED
    return ""


def vasprun(path: str | Path, options: ReadOptions) -> Iterator[Any]:
    """ase.Atoms of the steps of a vasprun.xml; steps that are no labels never reach ASE, which fails at some."""
    from ase.io import iread

    reasons, complete = vasprun_reasons(path)
    left_out = [number for number, reason in enumerate(reasons) if reason]
    if options.structures:
        left_out = [number for number in left_out if reasons[number] != UNCONVERGED]
    with contextlib.ExitStack() as stack:
        if left_out or not complete:
            root = ElementTree.fromstring(_whole(path, complete, options))
            steps = root.findall(CALCULATION)
            for number in left_out:
                root.remove(steps[number])
                options.log.notes[reasons[number]] += 1
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "vasprun.xml"
            ElementTree.ElementTree(root).write(path)
        for atoms in iread(str(path), index=":", format="vasp-xml", do_not_split_by_at_sign=True):
            if options.structures and any(reasons):
                atoms.calc = None
            yield atoms


def vasprun_reasons(path: str | Path) -> tuple[list[str], bool]:
    """(why each whole step of a vasprun.xml is no label, "" if it is one; whether the file is whole)."""
    reasons: list[str] = []
    most = electronic = 0
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "i" and element.get("name") == "NELM":
                most = int(element.text or 0)
            elif element.tag == "scstep":
                electronic += 1
                element.clear()
            elif element.tag == CALCULATION:
                reasons.append(UNCONVERGED if 0 < most <= electronic else "" if electronic else LEARNED)
                electronic = 0
                element.clear()
    except (ElementTree.ParseError, ValueError):
        return reasons, False
    return reasons, True


def _whole(path: str | Path, complete: bool, options: ReadOptions) -> str:
    """The text of a vasprun.xml, ended after its last whole step."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)
    if complete:
        return text
    end = f"</{CALCULATION}>"
    place = text.rfind(end)
    if f"<{CALCULATION}" in text[max(place, 0) + 1 :]:
        options.log.notes[CUT_OFF] += 1
    return text if place < 0 else text[: place + len(end)] + "</modeling>"


def check_marks(path: str | Path, kind: str, n_frames: int, options: ReadOptions) -> None:
    """Look for what a program says about convergence.

    Raises: DataError EQ3744 for one frame that did not converge
    """
    mark = MARKS.get(kind)
    if mark is None or options.structures:
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        found = sum(mark in line for line in file)
    if found and n_frames == 1:
        raise DataError(
            "EQ3744",
            f"{path}: says {mark!r}, so its energy and forces are no labels; converge the calculation, or read the "
            "structure alone",
        )
    if found:
        options.log.notes[DOUBTFUL] += found
