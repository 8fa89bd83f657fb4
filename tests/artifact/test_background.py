"""The child process that compiles; the change of programs is tested in tests/test_compiler.py."""

import os
import subprocess
import sys
from pathlib import Path

import eqff
from eqff.artifact.background import NICE, compile_command, lower_priority


def test_the_command_is_this_eqff_whatever_the_folder(tmp_path: Path) -> None:
    (tmp_path / "eqff.py").write_text("raise SystemExit('shadowed')")
    environment = os.environ | {"PYTHONPATH": str(Path(eqff.__file__).parents[1])}
    done = subprocess.run(
        compile_command("--help"), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--exact" in done.stdout


def test_low_priority() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        lower_priority(process)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == max(before, NICE)
    lower_priority(process)  # it has ended: nothing happens
