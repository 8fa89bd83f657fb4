"""Files on which libhdf5 goes in circles are refused in time; good ones are opened, whoever writes them."""

import os
import signal

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from eqff import cli
from eqff.data import hdf5_guard
from eqff.data.formats import spice
from eqff.data.h5md import read_h5md
from eqff.data.reading.read import Stream
from eqff.data.store.store import Store
from eqff.errors import DataError

posix = pytest.mark.skipif(os.name != "posix", reason="limits of time and memory of POSIX")


def good_file(path, n_frames=4):
    with h5py.File(path, "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"] = [8, 1, 1]
        group["conformations"] = np.arange(9.0 * n_frames).reshape(n_frames, 3, 3)
        group["dft_total_energy"] = -76.0 * np.ones(n_frames)
        group["smiles"] = [b"O"]
        group.attrs["note"] = "text"
    return path


def endless_file(path, offset, size):
    """An object in the global heap of text claims another size: libhdf5 then reads the rest of the heap for ever."""
    content = bytearray(good_file(path).read_bytes())
    place = content.index(b"GCOL") + offset
    content[place : place + 8] = size.to_bytes(8, "little")
    path.write_bytes(content)
    return path


@posix
@pytest.mark.parametrize(("offset", "size"), [(24, 256), (48, 24)])
def test_a_file_that_hangs_the_library_is_refused(tmp_path, offset, size):
    path = endless_file(tmp_path / "x.h5", offset, size)
    for read in (
        lambda: list(Stream(path)),
        lambda: list(spice.read(path)),
        lambda: Store(path),
        lambda: list(read_h5md(path)),
    ):
        with pytest.raises(DataError, match="EQ3511"):
            read()  # the first one waits, the others know
    result = CliRunner().invoke(cli.build(), ["data", "info", str(path)])
    assert isinstance(result.exception, DataError)


@posix
def test_after_a_bad_file_good_ones_are_read_and_a_repaired_one_too(tmp_path):
    path = endless_file(tmp_path / "x.h5", 24, 256)
    with pytest.raises(DataError, match="EQ3511"):
        hdf5_guard.check(path)
    path.unlink()
    good_file(path, n_frames=5)
    assert len(list(Stream(path))) == 5


def test_the_process_is_started_again_after_it_was_killed(tmp_path):
    hdf5_guard.check(good_file(tmp_path / "a.h5"))
    process = hdf5_guard._walker().process
    hdf5_guard.check(good_file(tmp_path / "b.h5"))
    assert hdf5_guard._walker().process is process  # kept
    os.kill(process.pid, signal.SIGTERM)
    process.wait()
    hdf5_guard.check(good_file(tmp_path / "c.h5"))


def test_looking_does_not_keep_a_writer_out(tmp_path):
    path = good_file(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        hdf5_guard.check(path)
        file["water"].attrs["more"] = 1
    hdf5_guard.check(path)
    with h5py.File(path, "r+") as file:
        assert file["water"].attrs["more"] == 1


def test_what_is_no_hdf5_is_left_to_the_reader(tmp_path):
    for name, content in {
        "empty": b"",
        "text": b"no HDF5",
        "cut": good_file(tmp_path / "x.h5").read_bytes()[:900],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        hdf5_guard.check(path)


@posix
def test_groups_that_contain_themselves_end(tmp_path):
    path = good_file(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["water/self"] = file["water"]
        file["water/root"] = file["/"]
        file["water/soft"] = h5py.SoftLink("/water/soft")
        file["water/far"] = h5py.ExternalLink("x.h5", "/water")
    hdf5_guard.check(path)
