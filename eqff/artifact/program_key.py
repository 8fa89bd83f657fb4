"""What decides the numbers of compiled programs beside the potential file: the code they are made by.

The files of CODE are read as text, so no import shows that this module depends on them; this is where it is stated.
Docstrings, comments, annotations and layout do not count: an edit of these throws no compiled program away.
"""

import ast
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from eqff.cache import private_cache
from eqff.errors import DataError, ResourceError
from eqff.files import new_file

PACKAGE = Path(__file__).resolve().parents[1]
CODE = (
    "compiler.py",
    "rebuild.py",
    "potential.py",
    "kernels",
    "nn",
    "models",
    "o3",
)  # folders: all below


@cache
def code_digest() -> str:
    """Digest of CODE, computed once for each state of the files (0.3 s), then remembered in the user's cache."""
    texts = code_files(PACKAGE)
    folder = private_cache("code")
    if folder is None:
        return digest(texts)
    remembered = folder / _sha256(f"{name}\n{text}" for name, text in texts.items())
    if not remembered.is_file():
        with suppress(OSError, DataError, ResourceError), new_file(remembered, force=True) as file:
            file.write_text(digest(texts))
    return remembered.read_text() if remembered.is_file() else digest(texts)


def code_files(package: Path) -> dict[str, str]:
    """Name below the package -> text, of Python, C++ and templates."""
    places = [package / part for part in CODE]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.*")))]
    kept = [file for file in files if file.is_file() and file.suffix not in (".pyc", ".so")]
    return {file.relative_to(package).as_posix(): file.read_text(encoding="utf-8") for file in kept}


def digest(texts: Mapping[str, str]) -> str:
    """Digest of what the files compute."""
    return _sha256(f"{name}\n{essence(text) if name.endswith('.py') else text}" for name, text in texts.items())


def essence(source: str) -> str:
    """Python without docstrings, comments, annotations and layout."""
    return ast.dump(_Stripper().visit(ast.parse(source)))


class _Stripper(ast.NodeTransformer):
    """Takes away what a reader needs and the numbers do not."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)  # the field of a dataclass stays one
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
        return self.generic_visit(node)


def _sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
