"""When two frames are the same structure: equal elements and coordinates, number for number, in the same order."""

import hashlib

from eqff.data.frame import Frame


def identity(frame: Frame) -> bytes:
    """16 bytes, equal for frames with the same atoms at the same places in the same cell, whatever their labels."""
    found = hashlib.blake2b(frame.atomic_numbers.astype("<i8").tobytes(), digest_size=16)
    found.update((frame.positions + 0.0).astype("<f8").tobytes())  # -0.0 is 0.0
    if frame.pbc.any():
        found.update(frame.pbc.astype("u1").tobytes() + (frame.cell + 0.0).astype("<f8").tobytes())
    return found.digest()
