"""Layouts that ASE would read for hours, or would read in part without a word."""

import pytest

from eqff.data.read import read_frames
from eqff.data.xyz import check_layout
from eqff.errors import DataError

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
