import pickle
import zipfile

import numpy as np
import pytest

from eqff.data.reading import npz as arrays
from eqff.data.reading.npz import Rows, as_text, read_npz
from eqff.errors import DataError


class Dangerous:
    """Unpickling this would leave a trace."""

    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.fixture
def good():
    return {
        "z": np.array([8, 1, 1], dtype=np.uint8),
        "R": np.ones((4, 3, 3)),
        "E": np.ones((4, 1)),
        "F": np.ones((4, 3, 3)),
    }


def refused(path, id, required=("z", "R"), optional=("E", "F")):
    with pytest.raises(DataError) as caught:
        read_npz(path, required, optional)
    assert caught.value.id == id
    assert str(path) in caught.value.message
    return caught.value.message


def test_pickled_objects_are_never_loaded(tmp_path, good):
    path = tmp_path / "bad.npz"
    np.savez(path, **(good | {"E": np.array([Dangerous()], dtype=object)}))
    assert "pickled" in refused(path, "EQ3022")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Dangerous()))
    refused(tmp_path / "raw.npz", "EQ3020")


def test_object_arrays_that_nobody_asked_for_do_no_harm(tmp_path, good):
    path = tmp_path / "extra.npz"
    np.savez(path, **good, r_prov_ids=np.array([Dangerous()], dtype=object))
    assert set(read_npz(path, ("z", "R"), ("E", "F"))) == {"z", "R", "E", "F"}


def test_missing_keys_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", q=np.ones(3))
    assert "no array z, R; choose a format for q" in refused(tmp_path / "a.npz", "EQ3021")
    refused(tmp_path / "nowhere.npz", "EQ3024")


def test_every_truncation_is_refused(ethanol_file, tmp_path):
    content = ethanol_file.read_bytes()
    path = tmp_path / "short.npz"
    for length in [0, 1, 2, 50, *range(100, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path, "EQ3020")


def test_flipped_bits_are_refused_or_change_nothing(ethanol_file, tmp_path):
    """CRC-32 of the archive covers the numbers; other bytes may be anything that is still readable."""
    content = ethanol_file.read_bytes()
    truth = read_npz(ethanol_file, ("z", "R"), ("E", "F"))
    random = np.random.default_rng(3)
    path = tmp_path / "flipped.npz"
    n_refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_npz(path, ("z", "R", "E", "F"))
        except DataError:
            n_refused += 1
        else:
            assert all(np.array_equal(found[name], truth[name]) for name in found)
    assert n_refused > 200


def test_an_array_that_claims_an_impossible_size_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 3), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("R.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(tmp_path / "huge.npz", "EQ3911", required=("R",))


def test_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("z.npy", b"hello")
        archive.writestr("R.npy", b"hello")
    assert "array z is damaged" in refused(tmp_path / "text.npz", "EQ3911")


@pytest.mark.parametrize("value", [np.array(b"kcal/mol"), np.array("kcal/mol"), np.array(["kcal/mol "])])
def test_text_as_bytes_or_str(value):
    assert as_text(value) == "kcal/mol"


@pytest.mark.parametrize("value", [None, np.array(""), np.array(["a", "b"])])
def test_text_that_says_nothing(value):
    assert as_text(value) is None


def test_an_array_that_unpacks_to_nothing_is_refused_before_it_fills_the_memory(tmp_path, good, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **(good | {"R": np.zeros((20_000, 3, 3))}))  # 1.4 MB from 2 kB
    assert len(read_npz(path, ("z", "R"))["R"]) == 20_000  # so small a file may be what it is
    monkeypatch.setattr(arrays, "RATIO_FROM", 2**20)
    assert "unpacks from" in refused(path, "EQ3930")
    np.savez_compressed(path, **(good | {"R": np.random.default_rng(0).normal(size=(20_000, 3, 3))}))
    assert len(read_npz(path, ("z", "R"))["R"]) == 20_000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i4", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_together_are_the_array(tmp_path, save, dtype, order):
    values = np.random.default_rng(1).integers(-99, 99, size=(23, 5, 3)).astype(dtype)
    save(tmp_path / "a.npz", R=np.array(values, order=order))
    rows = Rows(tmp_path / "a.npz", "R")
    assert (rows.shape, rows.dtype) == (values.shape, values.dtype)
    np.testing.assert_array_equal(rows.whole(), values)
    for n_rows in (1, 7, 23, 100):
        blocks = list(rows.blocks(n_rows))
        np.testing.assert_array_equal(np.concatenate(blocks), values)
        assert order == "F" or max(map(len, blocks)) <= n_rows


def test_reading_in_blocks_finds_damage_behind_the_first_ones(tmp_path, good):
    """Stored without compression, so the numbers before the damage come out right, and the checksum is at the end."""
    np.savez(tmp_path / "a.npz", R=np.arange(3000.0).reshape(1000, 3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    blocks = Rows(tmp_path / "a.npz", "R").blocks(10)
    np.testing.assert_array_equal(next(blocks), np.arange(30.0).reshape(10, 3))
    with pytest.raises(DataError, match=r"EQ3911.*R is damaged.*CRC"):
        list(blocks)


def test_shape_and_bytes_must_agree(tmp_path):
    for shape in ("(4, 3)", "(2, -3)", "(99999999999, 99999999999)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            archive.writestr("R.npy", start + bytes(80))
        refused(tmp_path / "a.npz", "EQ3911", required=("R",), optional=())


def test_too_many_members_and_members_of_one_name(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
        archive.writestr("R.npy", b"1")
        archive.writestr("R", b"2")
    refused(tmp_path / "two.npz", "EQ3910")
    monkeypatch.setattr(arrays, "MAX_MEMBERS", 3)
    np.savez(tmp_path / "many.npz", a=1, b=2, c=3, d=4)
    refused(tmp_path / "many.npz", "EQ3029")
