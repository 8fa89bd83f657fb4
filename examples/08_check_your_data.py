"""Check data sets: a good one, the same with forces in kcal/mol/Å, and one with mixed-up labels.

`eqff data check FILE --html report.html` does the same, with pictures; exit code 1 if anything fails.

python examples/08_check_your_data.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from eqff.data.forensics.examination import check_frames
from eqff.data.reading.read import read_frames
from eqff.units import KCAL_PER_MOL

sample = Path(__file__).parent / "data" / "ethanol_gfn2_500K_400frames.npz"
frames = read_frames(sample, energy_unit="kcal/mol")[::4]

report = check_frames(frames, name=sample.name)
for finding in report.findings:
    print(f"{finding.severity:12s} {finding.check:10s} {finding.message}")

# a fault that otherwise shows only after training, in a useless potential
wrong_unit = [replace(frame, forces=np.asarray(frame.forces) / KCAL_PER_MOL) for frame in frames]
order = np.random.default_rng(0).permutation(len(frames))
mixed_up = [replace(frame, energy=frames[i].energy) for frame, i in zip(frames, order, strict=True)]
for name, broken in (("forces in kcal/mol/Å", wrong_unit), ("energies of other frames", mixed_up)):
    found = check_frames(broken).findings[0]
    print(f"\nplanted: {name}\nfound:   {found.message}\nto do:   {found.remedy}")

# against the frames a potential was trained on
leaking = check_frames(frames[:30], against=[*frames[30:], frames[3]])
known = next(finding for finding in leaking.findings if finding.fault == "leakage")
print(f"\n{known.message}; frames {known.frames}, {len(leaking.faults)} fault")
