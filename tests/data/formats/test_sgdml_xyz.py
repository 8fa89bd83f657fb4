import numpy as np
import pytest

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import DataError


@pytest.fixture
def file(ethanol_file, tmp_path):
    """The ethanol sample as sGDML's older tools wrote it."""
    symbols = {1: "H", 6: "C", 8: "O"}
    with np.load(ethanol_file) as arrays, open(tmp_path / "a.xyz", "w") as out:
        for energy, positions, forces in zip(arrays["E"][:, 0], arrays["R"], arrays["F"], strict=True):
            out.write(f"9\n{float(energy)!r}\n")
            for z, r, f in zip(arrays["z"], positions, forces, strict=True):
                out.write(" ".join([symbols[int(z)], *(repr(float(x)) for x in (*r, *f))]) + "\n")
    return tmp_path / "a.xyz"


def test_same_frames_as_the_npz(file, ethanol_file, same_frame):
    assert find_format(file) == "sgdml_xyz"
    with pytest.raises(DataError, match=r"EQ3010.*looks like kcal/mol"):
        read_frames(file)
    found = read_frames(file, energy_unit="kcal/mol")
    assert all(same_frame(a, b) for a, b in zip(found, read_frames(ethanol_file), strict=True))


def test_a_number_as_comment_of_plain_xyz_is_no_energy(tmp_path):
    (tmp_path / "a.xyz").write_text("2\n17\nO 0 0 0\nH 0 0 1\n")
    assert find_format(tmp_path / "a.xyz") == "extxyz"


def test_a_damaged_frame(file):
    text = file.read_text()
    file.write_text(text.replace("\nC ", "\nC x", 1))
    with pytest.raises(DataError, match=r"EQ3935.*frame 0 \(byte 0\)"):
        read_frames(file, energy_unit="kcal/mol")
    lines = text.splitlines(keepends=True)
    file.write_text("".join([*lines[:22], "9\nlow\n", *lines[24:]]))
    with pytest.raises(DataError, match=r"EQ3935.*frame 2 .*could not convert"):
        read_frames(file, energy_unit="kcal/mol")
    source = Source(file, ReadOptions(energy_unit="kcal/mol", skip_bad=True))
    assert (len(source.frames), source.log.n_skipped) == (19, 1)
