import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqff.data.store.chunks import PlainChunks, fletcher32
from eqff.data.store.journal import IndependentFile
from eqff.errors import DataError

WORDS = st.sampled_from([0, 1, 2, 0x7FFF, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF)


def stored(path, values, rows):
    """An array written by HDF5 in chunks with checksums."""
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=values, chunks=(rows, *values.shape[1:]), fletcher32=True)
    return h5py.File(path, "r")


@settings(max_examples=30, deadline=None)
@given(words=hnp.arrays(">u2", (3, 400), elements=WORDS))
def test_checksums_are_those_of_hdf5(words, tmp_path_factory):
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    content = words.view(np.uint8)  # [3, 800]
    with stored(path, content.reshape(-1), 800) as file:
        chunks = [file["a"].id.read_direct_chunk((start,))[1] for start in (0, 800, 1600)]
    assert [chunk[:-4] for chunk in chunks] == [row.tobytes() for row in content]
    assert fletcher32(content).tolist() == [int.from_bytes(chunk[-4:], "little") for chunk in chunks]


@pytest.mark.parametrize("value", [0x0000, 0xFFFF, 0x5555])
def test_sums_that_are_multiples_of_65535(value, tmp_path):
    content = np.full(65535 * 2, value, dtype=">u2").view(np.uint8)
    with stored(tmp_path / "a.h5", content, len(content)) as file:
        _, chunk = file["a"].id.read_direct_chunk((0,))
    assert fletcher32(content[None])[0] == int.from_bytes(chunk[-4:], "little")


def test_rows_are_those_of_hdf5(tmp_path):
    random = np.random.default_rng(0)
    values = random.normal(size=(1003, 6))
    starts = np.sort(random.choice(990, 40, replace=False))
    stops = starts + random.integers(0, 13, size=40)  # some empty, some that overlap, some over two chunks
    with stored(tmp_path / "a.h5", values, 8) as file:
        chunks = PlainChunks(file["a"], IndependentFile(tmp_path / "a.h5"), tmp_path / "a.h5")
        found = chunks.read(starts, stops)
        assert np.array_equal(found, np.concatenate([values[a:b] for a, b in zip(starts, stops, strict=True)]))
        assert np.array_equal(chunks.read(np.array([0]), np.array([1003])), values)
        assert chunks.read(starts[:1], starts[:1]).shape == (0, 6)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.h5"
    with stored(path, np.random.default_rng(0).normal(size=(64, 6)), 8) as file:
        place = file["a"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    with h5py.File(path, "r") as file:
        chunks = PlainChunks(file["a"], IndependentFile(path), path)
        assert chunks.read(np.array([0, 32]), np.array([24, 64])).shape == (56, 6)
        with pytest.raises(DataError, match=r"EQ3072.*chunk 3 is damaged"):
            chunks.read(np.array([20]), np.array([25]))
