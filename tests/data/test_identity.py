from dataclasses import replace

import numpy as np

from eqff.data.identity import identity


def test_structure_counts_and_labels_do_not(mixed_frames):
    for frame in mixed_frames:
        relabelled = replace(frame, energy=1.0, forces=None, stress=None, info={"a": 1})
        assert identity(relabelled) == identity(frame)
        assert len(identity(frame)) == 16
    assert len({identity(frame) for frame in mixed_frames}) == 4
    bulk = mixed_frames[1]
    others = [
        replace(bulk, positions=bulk.positions + 1e-15),
        replace(bulk, positions=bulk.positions[::-1]),
        replace(bulk, atomic_numbers=bulk.atomic_numbers + 1),
        replace(bulk, cell=bulk.cell * 1.0001),
        replace(bulk, pbc=np.array([True, True, False])),
        replace(bulk, pbc=np.zeros(3, dtype=bool)),
    ]
    assert len({identity(frame) for frame in [bulk, *others]}) == 7


def test_a_cell_without_periodicity_and_the_sign_of_zero_say_nothing(mixed_frames):
    frame = mixed_frames[0]
    assert identity(replace(frame, cell=np.eye(3) * 50.0)) == identity(frame)
    alone = mixed_frames[2]
    assert identity(replace(alone, positions=-alone.positions)) == identity(alone)
