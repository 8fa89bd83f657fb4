"""Trajectories in HDF5: what goes in comes out, layout, and damage."""

import h5py
import numpy as np
import pytest

from eqff.data.h5md import H5MDWriter, read_h5md
from eqff.errors import DataError


def frames(n, n_atoms=3):
    rng = np.random.default_rng(1)
    for i in range(n):
        yield {
            "step": 10 * i,
            "time_fs": 5.0 * i,
            "atomic_numbers": np.array([8, 1, 1]),
            "masses": np.array([15.999, 1.008, 1.008]),
            "pbc": np.array([True, True, False]),
            "cell": np.diag([5.0, 6.0, 0.0]) + i,
            "positions": rng.normal(size=(n_atoms, 3)),
            "velocities": rng.normal(size=(n_atoms, 3)),
            "energy": rng.normal(),
            "forces": rng.normal(size=(n_atoms, 3)),
        }


def write(path, n):
    with H5MDWriter(path) as writer:
        for frame in frames(n):
            writer.write(**frame)
        assert writer.flush() == n


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            np.testing.assert_array_equal(getattr(one, name), value, err_msg=name)


@pytest.mark.parametrize("n", [1, 16, 40])
def test_frames_come_back_bit_for_bit(tmp_path, n):
    write(tmp_path / "a.h5", n)
    assert_same(list(read_h5md(tmp_path / "a.h5")), list(frames(n)))
    assert_same(list(read_h5md(tmp_path / "a.h5", stop=1)), list(frames(n))[:1])


def test_what_is_not_known_is_nan(tmp_path):
    (frame,) = frames(1)
    with H5MDWriter(tmp_path / "a.h5") as writer:
        writer.write(**frame | {"energy": None, "forces": None})
    (found,) = read_h5md(tmp_path / "a.h5")
    assert np.isnan(found.energy)
    assert np.isnan(found.forces).all()


def test_layout_is_that_of_h5md(tmp_path):
    write(tmp_path / "a.h5", 3)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "eqff"
        everything = file["particles/all"]
        for name in ("position", "velocity", "force"):
            assert everything[name]["value"].shape == (3, 3, 3)
            assert everything[name]["step"][:].tolist() == [0, 10, 20]
            assert everything[name]["time"][:].tolist() == [0.0, 5.0, 10.0]
        assert everything["box"].attrs["boundary"].tolist() == [b"periodic", b"periodic", b"none"]
        assert everything["box/edges/value"].shape == (3, 3, 3)
        assert everything["velocity/value"].attrs["unit"] == "Angstrom fs-1"
        assert everything["species"][:].tolist() == [8, 1, 1]
        assert file["observables/potential_energy/value"].shape == (3,)


def test_a_file_can_be_read_while_it_grows(tmp_path):
    writer, source = H5MDWriter(tmp_path / "a.h5"), frames(5)
    for n in (1, 2):
        writer.write(**next(source))
        writer.flush()
        assert len(list(read_h5md(tmp_path / "a.h5"))) == n
    writer.close()


def test_writing_goes_on_after_the_frames_that_are_kept(tmp_path):
    write(tmp_path / "a.h5", 20)
    with H5MDWriter(tmp_path / "a.h5", keep=7) as writer:
        for frame in list(frames(20))[7:12]:
            writer.write(**frame)
        assert writer.n_frames == 12
    assert_same(list(read_h5md(tmp_path / "a.h5")), list(frames(12)))
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(DataError, match=r"EQ3956: .*n_frames=12, expected at least 13"):
        H5MDWriter(tmp_path / "a.h5", keep=13)
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_damage_is_named(tmp_path):
    write(tmp_path / "a.h5", 20)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("cut.h5", "text.h5"):
        with pytest.raises(DataError, match=rf"EQ3072: .*{name}"):
            list(read_h5md(tmp_path / name))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(DataError, match=r"EQ3957: .*holds something"):
        list(read_h5md(tmp_path / "other.h5"))
    with pytest.raises(DataError, match="EQ3024"):
        list(read_h5md(tmp_path / "absent.h5"))


def test_a_changed_byte_of_the_numbers_is_found(tmp_path):
    write(tmp_path / "a.h5", 20)
    value = list(frames(20))[3]["positions"].tobytes()
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[content.index(value) + 5] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match="EQ3072"):
        list(read_h5md(tmp_path / "a.h5"))
