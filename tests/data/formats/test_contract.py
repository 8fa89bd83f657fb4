"""What every format must do, asked of every file in eqff/data/formats."""

import inspect

import pytest

from eqff import registry
from eqff.data.reading.file_units import Units
from eqff.data.reading.read import read_frames
from eqff.data.reading.write import write_frames
from eqff.errors import DataError

FORMATS = registry.names("data.formats")


def test_the_formats_of_this_version_are_found():
    assert {
        "ani", "ase_db", "ase_files", "deepmd", "extxyz", "hdf5", "md17", "qm9_npz", "qm9_xyz", "rmd17", "sgdml_xyz",
        "spice", "torchmdnet",
    } <= set(FORMATS)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_suffixes_read_units_write(name):
    module = registry.load("data.formats", name)
    assert all(suffix[:1] in (".", "") and suffix == suffix.lower() for suffix in module.SUFFIXES)
    written = [module.write] if getattr(module, "WRITES", True) else []
    for function in (module.read, module.units, *written):
        assert next(iter(inspect.signature(function).parameters)) == "path"
        assert function.__doc__


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(name, ethanol_file, tmp_path, same_frame):
    module = registry.load("data.formats", name)
    frames = read_frames(ethanol_file)
    path = tmp_path / f"a{module.SUFFIXES[0]}"
    if not getattr(module, "WRITES", True):
        with pytest.raises(DataError, match="EQ3042"):
            write_frames(path, frames, format=name)
        return
    module.write(path, iter(frames))
    assert isinstance(module.units(path), Units)
    again = list(module.read(path))
    assert all(same_frame(a, b, 1e-8) for a, b in zip(frames, again, strict=True))
    assert [a.energy for a in again] == pytest.approx([f.energy for f in frames], rel=1e-14)


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_missing_or_nonsense(name, tmp_path):
    module = registry.load("data.formats", name)
    path = tmp_path / f"a{module.SUFFIXES[0]}"
    with pytest.raises(DataError) as caught:
        list(module.read(path))
    assert caught.value.id == "EQ3024"
    for content in (b"", b"\x00" * 100, b"PK\x03\x04 and so on", "Müll".encode("latin-1") * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match=path.name):
            list(module.read(path))
