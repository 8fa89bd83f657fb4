"""What the README shows is there: files it links to, verbs it lists, Python it prints."""

import re
from pathlib import Path

import pytest

from eqff import registry

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    local = [link for link in links if not link.startswith("http")]
    assert local
    for link in local:
        assert (ROOT / link).exists(), link


def test_verbs_exist() -> None:
    named = set(re.findall(r"`eqff ([a-z]+)", TEXT))
    assert named
    assert named <= set(registry.names("cli"))


def test_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    assert "-42" in capsys.readouterr().out  # ethanol's total energy with this DFT is about -4210 eV


def test_two_commands_are_one_line_each() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2  # .ci/run runs them as written
    assert all(block.count("\n") == 1 for block in blocks)
