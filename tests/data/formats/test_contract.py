"""What every format must do, asked of every file in eqff/data/formats."""

import inspect
from itertools import islice

import pytest

from eqff import registry
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format, find_format, formats, table
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream, read_frames
from eqff.data.reading.structures import read_structure
from eqff.data.reading.write import write_frames
from eqff.errors import DataError

FORMATS = registry.names("data.formats")


def test_the_formats_of_this_version_are_found():
    assert {
        "ani", "ase_db", "ase_files", "deepmd", "extxyz", "hdf5", "md17", "qm9_npz", "qm9_xyz", "rmd17", "sgdml_xyz",
        "spice", "torchmdnet",
    } <= set(FORMATS)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_says_what_it_is_and_has_the_functions_of_the_protocol(name):
    format = formats()[name]
    assert isinstance(format, Format)
    assert format.summary
    assert name in table()
    assert all(suffix[:1] in (".", "") and suffix == suffix.lower() for suffix in format.suffixes)
    parameters = {"read": ["path", "options"], "units": ["path", "options"], "accepts": ["path"], "count": ["path"]}
    parameters |= {"provenance": ["path"], "write": ["path", "frames", "provenance"]}
    for function, expected in parameters.items():
        if getattr(format, function) is not None:
            assert list(inspect.signature(getattr(format, function)).parameters) == expected
            assert getattr(format, function).__doc__
    assert not format.fallback or format.accepts is not None


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(name, ethanol_file, tmp_path, same_frame):
    format = formats()[name]
    frames = read_frames(ethanol_file)
    path = tmp_path / f"a{format.suffixes[0]}"
    if format.write is None:
        with pytest.raises(DataError, match="EQ3042"):
            write_frames(path, frames, format=name)
        return
    write_frames(path, iter(frames), format=name)
    assert find_format(path) == name
    assert isinstance(format.units(path), Units)
    again = list(format.read(path))
    assert all(same_frame(a, b, 1e-8) for a, b in zip(frames, again, strict=True))
    assert [a.energy for a in again] == pytest.approx([f.energy for f in frames], rel=1e-14)
    if format.count is not None:
        assert format.count(path) == len(frames)
    if format.skips:
        assert same_frame(next(iter(format.read(path, ReadOptions(first=7)))), again[7])


@pytest.mark.parametrize("name", [name for name, format in formats().items() if format.write is not None])
def test_every_verb_gets_one_frame_by_its_index(name, ethanol_file, tmp_path):
    frames = read_frames(ethanol_file)
    path = tmp_path / f"a{formats()[name].suffixes[0]}"
    write_frames(path, frames, format=name)
    for index in (0, 3, -1):
        (frame,) = read_frames(f"{path}@{index}")
        atoms = read_structure(path, ReadOptions(index=str(index)))
        for positions in (frame.positions, atoms.positions):
            assert positions.ravel().tolist() == pytest.approx(frames[index].positions.ravel().tolist(), abs=1e-12)
        assert atoms.get_potential_energy() == pytest.approx(frames[index].energy, rel=1e-12)
    numbers = [number for number, _ in Stream(f"{path}@4:12:3").numbered()]
    assert numbers == [4, 7, 10]
    assert len(list(islice(Stream(path), 5))) == 5
    with pytest.raises(DataError, match=r"EQ3106.*index '20'.* 20 frames"):
        read_frames(f"{path}@20")


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_missing_or_nonsense(name, tmp_path):
    format = formats()[name]
    path = tmp_path / f"a{format.suffixes[0]}"
    with pytest.raises(DataError, match="EQ3918" if name == "deepmd" else "EQ3024"):
        list(format.read(path))
    for content in (b"", b"\x00" * 100, b"PK\x03\x04 and so on", "Müll".encode("latin-1") * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match=path.name):
            list(format.read(path))


@pytest.mark.parametrize("suffix", [".extxyz", ".h5", ".traj", ".db"])
def test_masses_of_isotopes_are_kept(suffix, tmp_path):
    (tmp_path / "a.xyz").write_text("3\nenergy=-1.0\nO 0 0 0\nD 0 0 1\nH 0 1 0\n")
    frames = read_frames(tmp_path / "a.xyz")
    write_frames(tmp_path / f"b{suffix}", frames)
    assert read_structure(tmp_path / f"b{suffix}").get_masses().tolist() == pytest.approx(
        [15.999, 2.014, 1.008], abs=1e-3
    )
    (again,) = read_frames(tmp_path / f"b{suffix}")
    assert again.atomic_numbers.tolist() == [8, 1, 1]
    assert again.info["masses"] == pytest.approx(frames[0].info["masses"])
