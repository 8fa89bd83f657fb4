"""What torch unpacks to run a compiled program is not left behind by a process that is killed later."""

import mmap
import sys
from pathlib import Path

import pytest

from eqff.artifact.compiled import _remove_unpacked


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_only_programs_of_this_process_are_removed(tmp_path: Path) -> None:
    folders = [tmp_path / "aotinductor_mine1", tmp_path / "aotinductor_other2"]
    for folder in folders:
        folder.mkdir()
        (folder / "model.so").write_bytes(b"program")
    with open(folders[0] / "model.so", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        _remove_unpacked()
        assert mapped[:] == b"program"
    assert list(tmp_path.iterdir()) == [folders[1]]
