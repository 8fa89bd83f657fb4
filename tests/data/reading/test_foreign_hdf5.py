"""HDF5 files that reach for other files, for libraries, or for more memory than they hold."""

import h5py
import numpy as np
import pytest

from eqff.data.reading import foreign_hdf5
from eqff.data.reading.foreign_hdf5 import array, first_group, groups, names_in_groups, opened, row_blocks
from eqff.errors import DataError


@pytest.fixture
def secret(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["group/pos"] = np.ones((4, 2, 3))
    return tmp_path / "secret.h5"


def read_all(path, names):
    with opened(path) as file:
        for _, group in groups(file):
            for name in names:
                found = array(group, name)
                assert found is None or found[:].size


def refused(path, id, names=("pos",)):
    with pytest.raises(DataError, match=id):
        read_all(path, names)


def test_links_to_other_files(secret, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group"] = h5py.ExternalLink("secret.h5", "/group")
    refused(tmp_path / "a.h5", "EQ3221")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("group")["pos"] = h5py.ExternalLink("secret.h5", "/group/pos")
    refused(tmp_path / "b.h5", "EQ3221")
    with h5py.File(tmp_path / "c.h5", "w") as file:  # a soft link inside may well lead to a link outside
        file["hidden"] = h5py.ExternalLink("secret.h5", "/group")
        file["group"] = h5py.SoftLink("/hidden")
    refused(tmp_path / "c.h5", "EQ3221")


def test_virtual_and_external_data_sets(secret, tmp_path):
    layout = h5py.VirtualLayout(shape=(4, 2, 3), dtype="f8")
    layout[:] = h5py.VirtualSource("secret.h5", "group/pos", shape=(4, 2, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group").create_virtual_dataset("pos", layout)
    refused(tmp_path / "a.h5", "EQ3947")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("group").create_dataset(
            "pos", (4, 2, 3), "f8", external=[(str(tmp_path / "secret.h5"), 0, h5py.h5f.UNLIMITED)]
        )
    refused(tmp_path / "b.h5", "EQ3947")


def test_foreign_filters(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group")
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(40000, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file["group"].id, b"pos", h5py.h5t.NATIVE_DOUBLE, space, properties)
    refused(tmp_path / "a.h5", "EQ3222")


def test_more_than_the_file_holds(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group").create_dataset("pos", (10**12, 3), "f8", chunks=(1024, 3))  # 24 TB of nothing
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    refused(tmp_path / "a.h5", "EQ3223")


def test_what_is_good_is_read(secret):
    with opened(secret) as file:
        assert first_group(file).name == "/group"
        assert array(file["group"], "nothing") is None
        blocks = list(row_blocks(array(file["group"], "pos"), None))
    np.testing.assert_array_equal(blocks[0][0], np.ones((4, 2, 3)))
    assert blocks[0][1] is None


def test_blocks(secret, monkeypatch):
    monkeypatch.setattr(foreign_hdf5, "BLOCK", 8 * 6 * 3)
    with opened(secret) as file:
        assert [len(block) for (block,) in row_blocks(array(file["group"], "pos"))] == [3, 1]


def test_damage(secret, tmp_path):
    content = secret.read_bytes()
    for length in (0, 10, 500, len(content) - 1):
        (tmp_path / "cut.h5").write_bytes(content[:length])
        refused(tmp_path / "cut.h5", "EQ3220")
    with pytest.raises(DataError, match="EQ3024"), opened(tmp_path / "nowhere.h5"):
        pass


def test_names_in_groups_end_where_a_group_contains_itself(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("molecule")
        group["again"] = group
        group["pos"] = np.zeros(3)
    assert names_in_groups(tmp_path / "a.h5") == [{"again", "pos"}, {"again", "pos"}]
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:200])
    (tmp_path / "c.h5").write_text("text")
    assert names_in_groups(tmp_path / "b.h5") == names_in_groups(tmp_path / "c.h5") == []
