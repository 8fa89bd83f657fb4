"""The key of compiled programs: what computes the same keeps it, what computes something else changes it."""

import shutil
from pathlib import Path

import pytest

from eqff.artifact import program_key
from eqff.artifact.program_key import PACKAGE, code_digest, code_files, digest

SOURCE = '''"""A module."""
from dataclasses import dataclass

@dataclass
class Config:
    """Numbers."""

    width: float = 2.0  # Å

def scaled(x: float, config: Config) -> float:
    """x times the width."""
    y: float = x * config.width
    return y + 1.0
'''


def key(source: str) -> str:
    return digest({"nn/scaled.py": source})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""A module\n\nof one function."""'),
        ('    """x times the width."""\n', ""),
        ("# Å", "# nm"),
        ("-> float", "-> object"),
        ("y: float = x", "y: int = x"),
        ("return y + 1.0", "return (\n        y + 1.0\n    )"),
    ],
)
def test_words_keep_the_key(old: str, new: str) -> None:
    assert old in SOURCE
    assert key(SOURCE.replace(old, new)) == key(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("2.0", "2.5"), ("x * config", "x / config"), ("y + 1.0", "y + 1"), ("return y + 1.0", "return 1.0 + y")],
)
def test_constants_and_operators_change_the_key(old: str, new: str) -> None:
    assert old in SOURCE
    assert key(SOURCE.replace(old, new)) != key(SOURCE)


def test_every_line_of_kernels_counts() -> None:
    assert digest({"kernels/kernel.h": "a * b; // b\n"}) != digest({"kernels/kernel.h": "a * b; // c\n"})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("nn/fast/spline.py", "1e-9", "1e-8"),
        ("nn/radial.py", "2.0 * math.pi", "3.0 * math.pi"),
        ("kernels/kernel.h", "+", "-"),
        ("compiler.py", '"cpp.threads": 1', '"cpp.threads": 2'),
    ],
)
def test_the_files_that_make_programs_count(tmp_path: Path, file: str, old: str, new: str) -> None:
    for part in program_key.CODE:
        copy = shutil.copytree if (PACKAGE / part).is_dir() else shutil.copy
        copy(PACKAGE / part, tmp_path / part)
    before, text = digest(code_files(tmp_path)), (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    assert digest(code_files(tmp_path)) != before


def test_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process parses nothing."""
    monkeypatch.setattr(program_key, "private_cache", lambda name: tmp_path)
    first = code_digest.__wrapped__()
    assert first == digest(code_files(PACKAGE))
    monkeypatch.setattr(program_key, "digest", lambda texts: pytest.fail("computed again"))
    assert code_digest.__wrapped__() == first


def test_without_a_cache_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_key, "private_cache", lambda name: None)
    assert code_digest.__wrapped__() == digest(code_files(PACKAGE))
