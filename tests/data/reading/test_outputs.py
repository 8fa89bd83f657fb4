"""Steps of electronic-structure programs that are no labels are left out, and counted."""

from pathlib import Path

import numpy as np
import pytest

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.outputs import CUT_OFF, DOUBTFUL, LEARNED, UNCONVERGED
from eqff.data.reading.read import Stream
from eqff.data.reading.structures import read_structures
from eqff.errors import DataError

HEADER = """ vasp.6.4.2 20Jul23 complex
 POTCAR:    PAW_PBE H 15Jun2001
 POTCAR:    PAW_PBE H 15Jun2001
   VRHFIN =H: ultrasoft test
   ions per type =               2
   NELM   =      {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
   ISPIN  =      1    spin polarized calculation?
"""
STEP = """----------------------------------------- Iteration    {n}(   1)  ---------------------------------------
----------------------------------------- Iteration    {n}(   2)  ---------------------------------------
{end}
  in kB      10.0     20.0     30.0      1.0      2.0      3.0
 VOLUME and BASIS-vectors are now :
 -----------------------------------------------------------------------------
  energy-cutoff  :      400.00
  volume of cell :      125.00
      direct lattice vectors                 reciprocal lattice vectors
     5.000000000  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000
     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000
     0.000000000  0.000000000  5.000000000     0.000000000  0.000000000  0.200000000

 POSITION                                       TOTAL-FORCE (eV/Angst){ml}
 -----------------------------------------------------------------------------------
      0.00000      0.00000      0.{n}0000         0.100000      0.000000      0.{n}00000
      0.00000      0.00000      0.80000        -0.100000      0.000000     -0.{n}00000
 -----------------------------------------------------------------------------------
"""
ENERGY = """  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =        -6.{n}0000000 eV

  energy  without entropy=       -6.{n}1000000  energy(sigma->0) =       -6.{n}2000000
"""
ML_ENERGY = """  ML FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy ML TOTEN  =        -6.{n}0000000 eV

  ML energy  without entropy=       -6.{n}1000000  ML energy(sigma->0) =       -6.{n}2000000
"""
REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------"
NOT_REACHED = "------------------------ aborting loop EDIFF was not reached (unconverged) -----------------------------"


def step(n: int, kind: str = "good") -> str:
    end = {"good": REACHED, "unconverged": NOT_REACHED, "many": "", "ml": ""}[kind]
    text = STEP.format(n=n, end=end, ml=" (ML)" if kind == "ml" else "")
    if kind == "ml":
        text = "".join(line for line in text.splitlines(keepends=True) if "Iteration" not in line)
    return text + (ML_ENERGY if kind == "ml" else ENERGY).format(n=n)


def outcar(
    folder: Path, *kinds: str, tail: str = "\n General timing and accounting informations for this job:\n"
) -> Path:
    nelm = 2 if "many" in kinds else 60
    path = folder / "OUTCAR"
    path.write_text(HEADER.format(nelm=nelm) + "".join(step(n, kind) for n, kind in enumerate(kinds, 1)) + tail)
    return path


def read(path: Path) -> tuple[list[float | None], dict[str, int]]:
    stream = Stream(path, ReadOptions())
    energies = [frame.energy for frame in stream]
    return energies, dict(stream.log.notes)


def test_a_good_file_is_read_as_before(tmp_path: Path) -> None:
    path = outcar(tmp_path, "good", "good")
    stream = Stream(path, ReadOptions())
    frames = list(stream)
    assert [frame.energy for frame in frames] == [-6.1, -6.2]
    assert LEARNED not in stream.log.notes
    np.testing.assert_allclose(frames[1].forces, [[0.1, 0.0, 0.2], [-0.1, 0.0, -0.2]])
    assert frames[0].stress is not None


@pytest.mark.parametrize(
    ("kinds", "energies", "note"),
    [
        (("good", "ml", "ml", "good"), [-6.1, -6.4], {LEARNED: 2}),
        (("good", "unconverged", "good"), [-6.1, -6.3], {UNCONVERGED: 1}),
        (("good", "many", "good"), [-6.1, -6.3], {UNCONVERGED: 1}),
    ],
)
def test_steps_that_are_no_labels(
    kinds: tuple[str, ...], energies: list[float], note: dict[str, int], tmp_path: Path
) -> None:
    path = outcar(tmp_path, *kinds)
    found, notes = read(path)
    assert found == energies
    assert note.items() <= notes.items()
    assert len(read_structures(path)) == len(kinds)  # as structures, all of them


def test_a_step_that_is_cut_off(tmp_path: Path) -> None:
    found, notes = read(outcar(tmp_path, "good", "good", tail=step(3)[:300]))
    assert found == [-6.1, -6.2]
    assert notes[CUT_OFF] == 1
    assert CUT_OFF not in read(outcar(tmp_path, "good", "good"))[1]


def test_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"EQ3745.*2 steps left out.*machine-learned"):
        read(outcar(tmp_path, "ml", "ml"))


XML = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <parameters><separator name="electronic"><i type="int" name="NELM">     3</i></separator></parameters>
 <atominfo><atoms>2</atoms><types>1</types>
  <array name="atoms"><set><rc><c>H </c><c>1</c></rc><rc><c>H </c><c>1</c></rc></set></array></atominfo>
 <structure name="initialpos"><crystal><varray name="basis"><v>5 0 0</v><v>0 5 0</v><v>0 0 5</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0 0 0.16</v></varray></structure>
 {steps}
</modeling>
"""
CALCULATION = """<calculation>{scf}
  <structure><crystal><varray name="basis"><v>5 0 0</v><v>0 5 0</v><v>0 0 5</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0 0 0.16</v></varray></structure>
  <varray name="forces"><v>0 0 {n}</v><v>0 0 -{n}</v></varray>
  <energy><i name="e_fr_energy">-{n}</i><i name="e_wo_entrp">-{n}</i><i name="e_0_energy">-{n}</i></energy>
 </calculation>"""
NAMES = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
SCF = f"<scstep><energy>{''.join(f'<i name={chr(34)}{name}{chr(34)}>-1</i>' for name in NAMES)}</energy></scstep>"


def test_steps_of_vasprun(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    steps = [CALCULATION.format(scf=SCF * k, n=n) for n, k in ((1, 2), (2, 3), (3, 0), (4, 1))]
    path.write_text(XML.format(steps="\n".join(steps)))
    found, notes = read(path)
    assert found == [-1.0, -4.0]
    assert (notes[UNCONVERGED], notes[LEARNED]) == (1, 1)
    assert len(read_structures(path)) == 3  # ASE cannot read a machine-learned step at all


@pytest.mark.parametrize("second", [2, 3])
def test_vasprun_of_a_killed_run(second: int, tmp_path: Path) -> None:
    """Whole steps are kept, the last one is not, whether or not another is left out."""
    path = tmp_path / "vasprun.xml"
    steps = [CALCULATION.format(scf=SCF * k, n=n) for n, k in ((1, 2), (2, second), (3, 1))]
    text = XML.format(steps="\n".join(steps))
    path.write_text(text[: text.rindex("<energy>")])
    found, notes = read(path)
    assert found == ([-1.0, -2.0] if second == 2 else [-1.0])
    assert notes[CUT_OFF] == 1
    assert notes.get(UNCONVERGED, 0) == second - 2


def test_other_programs_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eqff.data.reading import outputs

    path = tmp_path / "some.out"
    path.write_text("convergence NOT achieved after 100 iterations: stopping\n")
    with pytest.raises(DataError, match=r"EQ3744.*convergence NOT achieved"):
        outputs.check_marks(path, "espresso-out", 1, ReadOptions())
    options = ReadOptions()
    outputs.check_marks(path, "espresso-out", 7, options)
    assert options.log.notes[DOUBTFUL] == 1
    outputs.check_marks(path, "espresso-out", 1, ReadOptions(structures=True))
    outputs.check_marks(path, "cif", 1, ReadOptions())
