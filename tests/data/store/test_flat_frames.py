import hashlib

from eqff.data.store.flat_frames import EMPTY_DIGEST, flatten


def test_frames_come_back(mixed_frames, same_frame):
    frames = list(flatten(mixed_frames).frames())
    assert all(same_frame(a, b) and a.info == b.info for a, b in zip(frames, mixed_frames, strict=True))


def test_digest_does_not_depend_on_the_grouping(mixed_frames):
    whole = flatten(mixed_frames).extend_digest(EMPTY_DIGEST)
    for cut in range(5):
        first = flatten(mixed_frames[:cut]).extend_digest(EMPTY_DIGEST)
        assert flatten(mixed_frames[cut:]).extend_digest(first) == whole


def test_digest_is_the_documented_chain(mixed_frames):
    """SHA-256(previous digest, "n_atoms n_info ", has, pbc, atomic numbers, atoms, energy, cell, stress, info)."""
    flat = flatten(mixed_frames[2:3])
    content = b"1 0 " + bytes([0, 1, 0]) + bytes(3) + bytes([1]) + bytes(8 * (6 + 1 + 9 + 6))
    assert flat.extend_digest(EMPTY_DIGEST) == hashlib.sha256(EMPTY_DIGEST + content).digest()
