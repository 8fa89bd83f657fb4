"""Rules of the house that import-linter cannot see."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "eqff"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def users(pattern: str) -> set[str]:
    found = set()
    for path in SOURCES:
        if re.search(pattern, path.read_text(encoding="utf-8")):
            found.add(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    return found


def test_torch_jit_only_where_programs_are_written_and_read() -> None:
    assert users(r"torch\.jit\.[a-z_]+\(|torch\._C\._jit") <= {"exporter", "artifact"}


def test_no_unpickling_and_no_evaluation_of_text() -> None:
    assert users(r"weights_only=False|allow_pickle=True|\byaml\.load\b|(?<![.\w])eval\(|(?<![.\w])exec\(") == set()


def test_no_global_torch_state_is_set() -> None:
    assert users(r"set_default_dtype|manual_seed_all|torch\.manual_seed\(|set_float32_matmul_precision") == set()
    assert users(r"torch\.set_num_threads") <= {"cli", "training"}  # processes of the user's own, on request
