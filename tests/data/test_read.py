import numpy as np
import pytest

from eqff.data.read import file_sha256, find_format, read_frames, read_source
from eqff.data.write import write_frames
from eqff.errors import ConfigError, DataError


def test_source_reports_what_was_decided(ethanol_file):
    source = read_source(ethanol_file)
    assert source.provenance == {
        "source": "ethanol_gfn2_20frames.npz",
        "source_sha256": file_sha256(ethanol_file),
        "source_format": "md17",
        "source_energy_unit": "kcal/mol (stated in the file)",
        "source_length_unit": "Å (stated in the file)",
    }
    assert source.census.compositions == {"C2H6O": 20}


def test_files_that_cannot_be(tmp_path):
    cases = {"a.npz": b"", "b.dat": b"x", "c.npz": b"x", "d.h5": b"x"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    expected = {"a.npz": "EQ3025", "b.dat": "EQ3040", "c.npz": "EQ3020", "d.h5": "EQ3072", "e.npz": "EQ3024"}
    for name, id in expected.items():
        with pytest.raises(DataError) as caught:
            read_frames(tmp_path / name)
        assert caught.value.id == id
    with pytest.raises(DataError, match=r"EQ3024.*is a folder"):
        read_frames(tmp_path)


def test_an_npz_of_another_kind_shows_what_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.ones(3), Z=np.ones(3))
    with pytest.raises(DataError, match=r"EQ3041.*its arrays are R, Z"):
        find_format(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match="choose from extxyz"):
        read_frames(tmp_path / "a.npz", format="vasp")


def test_a_bad_number_is_reported_with_its_frame(ethanol_file, tmp_path):
    with np.load(ethanol_file) as arrays:
        content = dict(arrays)
    content["F"][7, 3, 1] = np.nan
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match="frame 7: forces: atom 3") as caught:
        read_frames(tmp_path / "a.npz")
    assert caught.value.id == "EQ3002"


def test_keys_are_for_formats_that_have_them(ethanol_file):
    with pytest.raises(ConfigError, match="EQ1030"):
        read_frames(ethanol_file, energy_key="E")


@pytest.mark.parametrize("suffix", [".h5", ".extxyz", ".xyz", ".npz"])
def test_written_and_read_back(ethanol_file, tmp_path, suffix, same_frame):
    frames = read_frames(ethanol_file)
    path = tmp_path / f"copy{suffix}"
    write_frames(path, frames)
    assert all(same_frame(a, b, 1e-8) for a, b in zip(frames, read_frames(path), strict=True))
    with pytest.raises(DataError, match="EQ3070"):
        write_frames(path, frames)
    write_frames(path, frames[:3], force=True)
    assert len(read_frames(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_leaves_no_file(water_file, tmp_path):
    with pytest.raises(DataError, match=r"EQ3026.*periodic"):
        write_frames(tmp_path / "a.npz", read_frames(water_file))
    with pytest.raises(DataError, match="EQ3027"):
        write_frames(tmp_path / "a.npz", read_frames(water_file), format="rmd17")
    with pytest.raises(DataError, match="EQ3025"):
        write_frames(tmp_path / "a.xyz", [])
    assert list(tmp_path.iterdir()) == []


def test_stress_and_cell_survive_the_store(water_file, tmp_path, same_frame):
    frames = read_frames(water_file)
    write_frames(tmp_path / "a.h5", frames)
    assert all(same_frame(a, b) for a, b in zip(frames, read_frames(tmp_path / "a.h5"), strict=True))
