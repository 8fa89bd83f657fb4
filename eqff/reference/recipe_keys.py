"""Every key of a training recipe, read from the dataclasses: type, default, and what the comment beside it says.

[data], [training], [training.loss], ...   the dataclasses of training/config.py
[model]                                    `Config` of models/<family>.py
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]


class Key(NamedTuple):
    """A key that a recipe may hold."""

    path: str  # e.g. "training.batch_size"
    family: str  # of a key below `model`; else ""
    type: str
    default: str  # as Python; "" where the key must be given
    meaning: str  # with the unit


def recipe_keys(package: Path = PACKAGE) -> list[Key]:
    """All keys in the order of the source, those of each family of models last."""
    models = sorted((package / "models").glob("[!_]*.py"))
    families = Key("model.family", "", f"Literal{[path.stem for path in models]}", "", "which model to train")
    keys = list(_keys(package / "training" / "config.py", "RunConfig", "", ""))
    keys = [families if key.path == "model" else key for key in keys]
    for path in models:
        keys += _keys(path, "Config", "model.", path.stem)
    return keys


def _keys(path: Path, table: str, prefix: str, family: str) -> Iterator[Key]:
    text = path.read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    comments = _comments(text)

    def below(table: str, prefix: str) -> Iterator[Key]:
        for node in classes[table].body:
            if not isinstance(node, ast.AnnAssign):
                continue
            name, kind = prefix + ast.unparse(node.target), ast.unparse(node.annotation)
            if kind in classes:
                yield from below(kind, f"{name}.")
            else:
                default = "" if node.value is None else ast.unparse(node.value)
                yield Key(name, family, kind, default, _meaning(node, comments))

    yield from below(table, prefix)


def _comments(text: str) -> dict[int, tuple[str, bool]]:
    """Line -> its comment, and whether it stands alone there."""
    return {
        token.start[0]: (token.string.lstrip("# "), token.line.strip() == token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }


def _meaning(node: ast.AnnAssign, comments: dict[int, tuple[str, bool]]) -> str:
    """Comments on the lines above a field, then beside it."""
    first = node.lineno
    while first - 1 in comments and comments[first - 1][1]:
        first -= 1
    lines = range(first, (node.end_lineno or node.lineno) + 1)
    return " ".join(comments[line][0] for line in lines if line in comments)
