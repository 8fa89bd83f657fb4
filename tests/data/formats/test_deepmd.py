import shutil

import numpy as np
import pytest

from eqff.data.formats import deepmd
from eqff.data.reading.read import Source, read_frames
from eqff.data.reading.write import write_frames
from eqff.errors import DataError


@pytest.fixture
def folder(water_file, tmp_path):
    """The water sample as DeePMD keeps it, written by hand in two sets, energies in float32."""
    frames = read_frames(water_file)
    path = tmp_path / "water"
    for name, part in (("set.000", frames[:3]), ("set.001", frames[3:])):
        (path / name).mkdir(parents=True)
        np.save(path / name / "coord.npy", [f.positions.ravel() for f in part])
        np.save(path / name / "box.npy", [f.cell.ravel() for f in part])
        np.save(path / name / "energy.npy", np.array([f.energy for f in part], dtype=np.float32))
        np.save(path / name / "force.npy", [f.forces.ravel() for f in part])
    (path / "type.raw").write_text("\n".join("0" if z == 8 else "1" for z in frames[0].atomic_numbers))
    (path / "type_map.raw").write_text("O H\n")
    return path


def test_sets_one_after_the_other(folder, water_file):
    frames = read_frames(water_file)
    source = Source(folder)
    assert source.format == "deepmd"
    assert source.census.labels == {"energy": 5, "forces": 5, "stress": 0}
    for one, other in zip(frames, source.frames, strict=True):
        np.testing.assert_array_equal(one.atomic_numbers, other.atomic_numbers)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.forces, other.forces)
        np.testing.assert_array_equal(one.cell, other.cell)
        assert other.energy == np.float32(one.energy)
        assert other.pbc.all()


def test_virial_is_minus_stress_times_volume(folder, water_file):
    frames = read_frames(water_file)
    for name, part in (("set.000", frames[:3]), ("set.001", frames[3:])):
        full = [f.stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]] for f in part]
        virials = [-s * np.dot(f.cell[0], np.cross(f.cell[1], f.cell[2])) for s, f in zip(full, part, strict=True)]
        np.save(folder / name / "virial.npy", virials)
    for one, other in zip(frames, read_frames(folder), strict=True):
        np.testing.assert_allclose(one.stress, other.stress, rtol=1e-13)


def test_a_folder_of_systems(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "all" / "b")
    shutil.copytree(folder, tmp_path / "all" / "a")
    (tmp_path / "all" / "readme.txt").write_text("two systems")
    assert len(read_frames(tmp_path / "all")) == 10


def test_written_and_read_back_bit_for_bit(water_file, ethanol_file, tmp_path, same_frame, monkeypatch):
    monkeypatch.setattr(deepmd, "FRAMES_PER_SET", 3)
    for source in (water_file, ethanol_file):
        frames = read_frames(source)
        write_frames(tmp_path / source.stem, frames, format="deepmd")
        again = read_frames(tmp_path / source.stem)
        for one, other in zip(frames, again, strict=True):
            assert same_frame(one, other, 1e-15)
            for name in ("positions", "forces", "cell", "pbc"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert one.energy == other.energy
    assert len(list((tmp_path / ethanol_file.stem).glob("set.*"))) == 7
    with pytest.raises(DataError, match="EQ3078"):
        write_frames(tmp_path / water_file.stem, frames, format="deepmd", force=True)


def test_what_the_layout_cannot_hold_leaves_nothing(mixed_frames, tmp_path):
    with pytest.raises(DataError, match=r"EQ3215.*frame 1 has other atoms"):
        write_frames(tmp_path / "out", mixed_frames, format="deepmd")
    with pytest.raises(DataError, match="EQ3920"):
        write_frames(tmp_path / "out", [], format="deepmd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "id"),
    [
        ("set.000/coord.npy", None, "EQ3940"),
        ("set.000/coord.npy", b"hello", "EQ3214"),
        ("set.000/coord.npy", "cut", "EQ3214"),
        ("set.000/energy.npy", np.array([object()]), "EQ3214"),
        ("set.000/force.npy", np.array(1.0), "EQ3942"),
        ("set.000/coord.npy", np.array(1.0), "EQ3942"),
        ("set.000/energy.npy", np.zeros(7), "EQ3023"),
        ("set.000/force.npy", np.zeros((3, 6)), "EQ3023"),
        ("set.000/box.npy", None, "EQ3941"),
        ("type.raw", "0\n7\n", "EQ3939"),
        ("type.raw", "0\n-1\n", "EQ3939"),
        ("type_map.raw", "O Qq\n", "EQ3939"),
        ("type_map.raw", None, "EQ3213"),
    ],
)
def test_damage(folder, name, content, id):
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=id):
        read_frames(folder)


def test_without_periodicity(folder):
    (folder / "nopbc").write_text("")
    assert not any(frame.pbc.any() or frame.cell.any() for frame in read_frames(folder))


def mixed(path, types):
    """Two frames of a mixed set with up to three atoms: HO, then OHH."""
    (path / "set.000").mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(2, 9)) for name in ("coord", "force")} | {"energy": np.array([-1.0, -2.0])}
    for name, array in arrays.items():
        np.save(path / "set.000" / f"{name}.npy", array)
    np.save(path / "set.000" / "box.npy", np.tile(9.0 * np.eye(3).ravel(), (2, 1)))
    np.save(path / "set.000" / "real_atom_types.npy", np.array(types))
    (path / "type.raw").write_text("0 0 0")
    (path / "type_map.raw").write_text("H O")
    return arrays


def test_elements_of_a_mixed_set_are_those_of_every_frame(tmp_path):
    arrays = mixed(tmp_path / "water", [[0, 1, -1], [1, 0, 0]])
    first, second = read_frames(tmp_path / "water")
    assert (first.atomic_numbers.tolist(), second.atomic_numbers.tolist()) == ([1, 8], [8, 1, 1])
    np.testing.assert_array_equal(first.positions, arrays["coord"][0].reshape(3, 3)[:2])
    np.testing.assert_array_equal(first.forces, arrays["force"][0].reshape(3, 3)[:2])
    np.testing.assert_array_equal(second.forces, arrays["force"][1].reshape(3, 3))


@pytest.mark.parametrize(
    ("types", "id"), [([[0, 2, 1], [0, 0, 0]], "EQ3740"), ([[0, -2, 1], [0, 0, 0]], "EQ3740"), ([[0, 1]], "EQ3023")]
)
def test_types_of_a_mixed_set_that_name_nothing(tmp_path, types, id):
    mixed(tmp_path / "water", types)
    with pytest.raises(DataError, match=id):
        read_frames(tmp_path / "water")
