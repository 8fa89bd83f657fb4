import re

import numpy as np
import pytest

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, Stream, find_format, read_frames, source_sha256
from eqff.data.reading.write import write_frames
from eqff.errors import ConfigError, DataError, EqffError


def test_source_reports_what_was_decided(ethanol_file):
    source = Source(ethanol_file)
    assert source.provenance == {
        "source": "ethanol_gfn2_20frames.npz",
        "source_sha256": source_sha256(ethanol_file),
        "source_format": "md17",
        "source_energy_unit": "kcal/mol (stated in the file)",
        "source_length_unit": "Å (stated in the file)",
        "level_of_theory": "GFN2-xTB (tblite)",
        "origin_name": "ethanol",
    }
    assert source.census.compositions == {"C2H6O": 20}


def test_files_that_cannot_be(tmp_path):
    cases = {"a.npz": b"", "b.zzz": b"x", "c.npz": b"x", "d.h5": b"x"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    expected = {"a.npz": "EQ3925", "b.zzz": "EQ3040", "c.npz": "EQ3020", "d.h5": "EQ3072", "e.npz": "EQ3024"}
    for name, id in expected.items():
        with pytest.raises(DataError, match=id):
            read_frames(tmp_path / name)
    with pytest.raises(DataError, match=r"EQ3041.*a folder of DeePMD has type.raw"):
        read_frames(tmp_path)


def test_an_npz_of_another_kind_shows_what_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.ones(3), Z=np.ones(3))
    with pytest.raises(DataError, match=r"EQ3041.*its arrays are R, Z"):
        find_format(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match=r"choose from ani, .*extxyz"):
        read_frames(tmp_path / "a.npz", format="numpy")


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


@pytest.mark.parametrize("suffix", [".h5", ".extxyz", ".xyz", ".npz", ".db", ".traj"])
def test_written_and_read_back(ethanol_file, tmp_path, suffix, same_frame):
    frames = read_frames(ethanol_file)
    path = tmp_path / f"copy{suffix}"
    write_frames(path, frames)
    # bit for bit; the MD17 layout is in kcal/mol, which rounds the last digit
    tolerance = 1e-12 if suffix == ".npz" else 0.0
    assert all(same_frame(a, b, tolerance) for a, b in zip(frames, read_frames(path), strict=True))
    with pytest.raises(DataError, match="EQ3070"):
        write_frames(path, frames)
    write_frames(path, frames[:3], force=True)
    assert len(read_frames(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_leaves_no_file(water_file, tmp_path):
    with pytest.raises(DataError, match=r"EQ3026.*periodic"):
        write_frames(tmp_path / "a.npz", read_frames(water_file))
    with pytest.raises(DataError, match=r"EQ3042.*rmd17 can only be read"):
        write_frames(tmp_path / "a.npz", read_frames(water_file), format="rmd17")
    with pytest.raises(DataError, match="EQ3920"):
        write_frames(tmp_path / "a.xyz", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".h5", ".extxyz", ".db", ".traj"])
def test_stress_and_cell_survive_bit_for_bit(water_file, tmp_path, same_frame, suffix):
    frames = read_frames(water_file)
    write_frames(tmp_path / f"a{suffix}", frames)
    assert all(same_frame(a, b) for a, b in zip(frames, read_frames(tmp_path / f"a{suffix}"), strict=True))


@pytest.mark.parametrize("suffix", [".extxyz", ".db", ".traj"])
def test_all_kinds_of_frames_survive_bit_for_bit(mixed_frames, tmp_path, same_frame, suffix):
    write_frames(tmp_path / f"a{suffix}", mixed_frames)
    again = read_frames(tmp_path / f"a{suffix}")
    assert all(same_frame(a, b) for a, b in zip(mixed_frames, again, strict=True))
    assert again[1].info["config_type"] == "bulk"
    assert again[1].info["temperature"] == 300.0
    assert again[0].info == {}


def bad_frames(water_file, tmp_path):
    """Five frames: the second has an atom at NaN, the fourth a label of text, the last an atom at infinity."""
    frames = water_file.read_text().splitlines(keepends=True)
    size = len(frames) // 5
    frames[size + 2] = "O nan 0 0 0 0 0\n"
    frames[3 * size + 1] = re.sub("energy=[^ ]*", "energy=low", frames[3 * size + 1])
    frames[4 * size + 2] = "O inf 0 0 0 0 0\n"
    path = tmp_path / "bad.extxyz"
    path.write_text("".join(frames))
    return path, size, frames


def test_bad_frames_are_counted_and_left_out_if_that_is_wanted(water_file, tmp_path, same_frame):
    path, _, _ = bad_frames(water_file, tmp_path)
    with pytest.raises(EqffError, match=r"EQ2103.*frame 1.*atom 0"):
        read_frames(path)
    source = Source(path, ReadOptions(skip_bad=True))
    good = read_frames(water_file)
    assert all(same_frame(a, b) for a, b in zip(source.frames, [good[0], good[2]], strict=True))
    assert source.log.n_skipped == 3
    assert "frame 1: positions: atom 0 is not finite" in source.log.skipped[0]
    assert "EQ3032" in source.log.skipped[1]
    assert "frame 3 (byte" in source.log.skipped[1]
    assert "frame 4: positions: atom 0 is not finite" in source.log.skipped[2]


def test_what_comes_before_the_damage_is_kept_if_that_is_wanted(water_file, tmp_path, same_frame):
    text = water_file.read_bytes()
    (tmp_path / "cut.extxyz").write_bytes(text[: int(len(text) * 0.7)])
    with pytest.raises(DataError, match=r"EQ3036.*frame 3 \(byte \d+\) announces 48 atoms"):
        read_frames(tmp_path / "cut.extxyz")
    source = Source(tmp_path / "cut.extxyz", ReadOptions(recover=True))
    assert all(same_frame(a, b) for a, b in zip(source.frames, read_frames(water_file)[:3], strict=True))
    assert "frame 3 (byte" in source.log.lost
    offset = int(re.search(r"byte (\d+)", source.log.lost)[1])
    assert text[offset:].startswith(b"48\nLattice=")
    (tmp_path / "nothing.extxyz").write_bytes(text[:100])
    with pytest.raises(DataError, match="EQ3036"):  # not one frame is left
        Source(tmp_path / "nothing.extxyz", ReadOptions(recover=True))


def test_a_stream_counts_anew_in_every_pass(water_file, tmp_path):
    path, _, _ = bad_frames(water_file, tmp_path)
    stream = Stream(path, ReadOptions(skip_bad=True))
    for _ in range(2):
        assert len(list(stream)) == 2
        assert (stream.census.n_frames, stream.log.n_skipped) == (2, 3)


def test_a_name_that_looks_like_the_missing_label_is_asked_about(tmp_path):
    text = "2\nProperties=species:S:1:pos:R:3:mp2_force:R:3 mp2_energy=-3.5\nO 0 0 0 .1 .2 .3\nH 0 0 1 -.1 -.2 -.3\n"
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(DataError, match=r"EQ3200.*no frame has energy .* 'mp2_energy'.*--energy-key mp2_energy"):
        read_frames(tmp_path / "a.xyz")
    with pytest.raises(DataError, match=r"EQ3200.*no frame has forces .* 'mp2_force'"):
        read_frames(tmp_path / "a.xyz", energy_key="mp2_energy")
    (frame,) = read_frames(tmp_path / "a.xyz", energy_key="mp2_energy", forces_key="none")
    assert (frame.energy, frame.forces) == (-3.5, None)


def test_the_hash_of_a_folder_sees_every_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("1")
    first = source_sha256(tmp_path)
    (tmp_path / "a" / "b").write_text("2")
    second = source_sha256(tmp_path)
    (tmp_path / "a" / "b").rename(tmp_path / "a" / "c")
    assert len({first, second, source_sha256(tmp_path)}) == 3


def test_some_frames_of_a_store_are_not_the_store(ethanol_file, tmp_path):
    write_frames(tmp_path / "a.h5", read_frames(ethanol_file))
    assert Stream(tmp_path / "a.h5").is_store
    part = Stream(f"{tmp_path / 'a.h5'}@:10")
    assert not part.is_store
    assert len(list(part)) == 10
    assert part.sha256 == source_sha256(tmp_path / "a.h5")


def test_bad_frames_in_front_do_not_shift_the_index(water_file, tmp_path):
    path, _, _ = bad_frames(water_file, tmp_path)
    options = ReadOptions(skip_bad=True)
    assert [number for number, _ in Stream(path, options).numbered()] == [0, 2]
    assert [number for number, _ in Stream(f"{path}@2:", options).numbered()] == [2]
