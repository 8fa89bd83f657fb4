"""Every family, in every form it is run in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eqff.artifact import compiled
from eqff.kernels import build

from . import programs
from .exam import Exam, names, prepared

ROOT = Path(__file__).parents[2]
PROVE = """
import sys
from pathlib import Path
from eqff.artifact.program import prove
for path in sys.argv[1:]:
    prove(Path(path))
"""


@pytest.mark.parametrize(
    "check", [programs.torchscript, programs.torchscript_in_float32, programs.second_derivatives_of_torchscript]
)
def test_torchscript(check, exam: Exam) -> None:
    check(exam)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("potentials")


def test_exported(exam: Exam, folder: Path) -> None:
    programs.exported(exam, folder)


def test_files_need_nothing_but_torch(folder: Path) -> None:
    """One fresh process loads the files of all families and checks their test vectors, three rounds each."""
    paths = [folder / f"{name}.eqff.pt" for name in names()]
    made = [path if path.exists() else programs.exported(prepared(path.name.split(".")[0]), folder) for path in paths]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-P", "-c", PROVE, *map(str, made)], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr


@pytest.mark.slow
@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
def test_compiled(exam: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "private_cache", lambda name: tmp_path)
    programs.compiled(exam, programs.exported(exam, tmp_path))
