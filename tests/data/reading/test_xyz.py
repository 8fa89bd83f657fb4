"""Layouts that ASE would read for hours, or would read in part without a word."""

import ase.io
import pytest

from eqff.data.reading.read import read_frames
from eqff.data.reading.xyz import check_layout
from eqff.errors import DataError, EqffError

FRAME = "2\nenergy=-1.0\nO 0 0 0\nH 0 0 1\n"


def write(tmp_path, content):
    path = tmp_path / "a.xyz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "id", "words"),
    [
        ("999999999999\n\nO 0 0 0\n", "EQ3035", "frame 0 (byte 0) announces 999999999999 atoms"),
        (FRAME + "-2\n\n", "EQ3035", f"frame 1 (byte {len(FRAME)}) announces -2 atoms"),
        (FRAME + FRAME[:-8], "EQ3036", "frame 1 (byte 30) announces 2 atoms, but the file ends after 1"),
        (FRAME + "\n" + FRAME, "EQ3037", "frame 1 (byte 30): text follows a blank line"),
        (b"\xef\xbb\xbf" + FRAME.encode(), "EQ3038", "byte-order mark"),
        (FRAME.encode("utf-16"), "EQ3038", "byte-order mark"),
    ],
)
def test_what_cannot_be_read_whole_is_refused_with_its_place(tmp_path, content, id, words):
    path = write(tmp_path, content)
    for reader in (check_layout, read_frames):
        with pytest.raises(DataError) as caught:
            reader(path)
        assert caught.value.id == id
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("content", "n_frames"),
    [
        (FRAME * 3, 3),
        (FRAME.replace("\n", "\r\n") * 2, 2),
        (FRAME + FRAME.rstrip(), 2),
        (FRAME + "\n  \n", 1),
        (FRAME + "VEC1 5 0 0\nVEC2 0 5 0\nVEC3 0 0 5\n" + FRAME, 2),
    ],
)
def test_what_is_whole_is_read_whole(tmp_path, content, n_frames):
    path = write(tmp_path, content)
    check_layout(path)
    assert len(read_frames(path)) == n_frames


@pytest.mark.parametrize(
    ("content", "id", "words"),
    [
        (FRAME + "0\nenergy=-1.0\n", "EQ2108", "frame 1"),
        (FRAME.replace("O 0", "Qq 0"), "EQ3030", "'Qq' is not a chemical symbol"),
        (FRAME.replace("O 0 0 0", "O 0 0"), "EQ3030", "atom 0 has 3 columns, expected 4"),
        (FRAME.replace("O 0", "O 0,0"), "EQ3030", "could not convert string to float"),
        (FRAME.replace("O 0", "O 1e9"), "EQ2104", "frame 0"),
        (FRAME.replace("energy=-1.0", "Properties=species:S:1:pos:R:3:forces:R:3"), "EQ3030", "expected 7"),
        (FRAME.replace("energy=-1.0", "Properties=species:S:1:pos:Q:3"), "EQ3030", "a kind is S, R, I or L"),
        (FRAME.replace("energy=-1.0", 'Lattice="1 0 0 0 1 0 0 0 0" pbc="T T T"'), "EQ2106", "frame 0"),
        (FRAME.replace("energy=-1.0", 'Lattice="1 0 0 0 1"'), "EQ3030", "frame 0"),
        (FRAME.replace("energy=-1.0", 'Lattice="1 0 0 0 1 0 0 0 1" pbc="T T"'), "EQ3030", "pbc="),
        (FRAME.encode().replace(b"energy", b"\xe9nergie"), "EQ3932", "is not UTF-8 text"),
        ("9" * 5000 + "\n\nO 0 0 0\n", "EQ3931", "expected a number of atoms"),
        ("1\n" + "x" * 2**20 + "\nO 0 0 0\n", "EQ3039", "has a line of more than"),
    ],
)
def test_frames_that_cannot_be_understood(tmp_path, content, id, words):
    with pytest.raises(EqffError) as caught:
        read_frames(write(tmp_path, content))
    assert caught.value.id == id
    assert words in caught.value.message


def test_tabs_quotes_other_letters_and_columns(tmp_path):
    text = (
        "2\nProperties=species:S:1:pos:R:3:tag:I:1:fixed:L:1:forces:R:3 "
        'energy=-1.5 "der Name"="Öl 5 °C" note=\'a "b" c\'\n'
        "O\t0.0\t0.0\t0.0\t3\tT\t0.1\t0.2\t0.3\n\tH 0 0 1.0 4 F -.1 -.2 -3e-1  \n"
    )
    (frame,) = read_frames(write(tmp_path, text))
    (atoms,) = ase.io.read(tmp_path / "a.xyz", ":", format="extxyz")
    assert frame.positions.tolist() == atoms.positions.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert frame.forces.tolist() == atoms.get_forces().tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]
    assert frame.info == atoms.info
    assert frame.info["der Name"] == "Öl 5 °C"


def test_atomic_numbers_in_place_of_symbols_and_vectors_behind(tmp_path):
    (frame,) = read_frames(write(tmp_path, "2\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n1 0 0 1\n"))
    assert frame.atomic_numbers.tolist() == [8, 1]
    vectors = "VEC1 5 0 0\nVEC2 0 6 0\n"
    (frame,) = read_frames(write(tmp_path, FRAME.replace("energy=-1.0", "a comment") + vectors))
    assert frame.cell.tolist() == [[5, 0, 0], [0, 6, 0], [0, 0, 0]]
    assert frame.pbc.tolist() == [True, True, False]
