"""A disk that is full while HDF5 is written: an error that names the file, and no crash."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import resource, signal, sys
import numpy as np
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # bytes, of every file of this process
numbers, positions = np.full(50, 6), np.random.default_rng(0).random((50, 3))
try:
    if sys.argv[3] == "store":
        from eqff.data.frame import Frame
        from eqff.data.store.store import write_store
        frame = Frame(atomic_numbers=numbers, positions=positions, energy=1.0)
        write_store(path, (frame for _ in range(200)))
    else:
        from eqff.data.h5md import H5MDWriter
        with H5MDWriter(path) as writer:
            for step in range(50):
                writer.write(step=step, time_fs=1.0 * step, atomic_numbers=numbers, masses=1.0 * numbers,
                             pbc=np.zeros(3, bool), cell=np.zeros((3, 3)), positions=positions, velocities=positions)
                writer.flush()
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize("kind", ["store", "h5md"])
@pytest.mark.parametrize("limit", [1000, 9000, 20_000, 40_000])
def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path, kind: str, limit: int) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "frames.h5"), str(limit), kind]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout == f"27 {tmp_path / 'frames.h5'}\n"  # EFBIG
    assert not list(tmp_path.glob(".*"))
    assert kind == "h5md" or not list(tmp_path.iterdir())
