"""Every error eqff raises, read from its source: what `eqff explain EQ3070` prints, and a page of the documentation.

An error is listed because some file holds `DataError("EQ3070", f"{path}: what is wrong; what to do")`.  The message
may also be a variable that is assigned before, or a function of the same file that returns it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]
ID = re.compile(r"EQ\d{4}")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Site(NamedTuple):
    """A place in the source that raises an error."""

    id: str  # e.g. "EQ3070"
    kind: str  # class of errors.py
    template: str  # message with placeholders, e.g. "<path>: the file exists; choose another name"
    where: str  # module and function, e.g. "eqff.files.new_file"
    line: int
    summary: str  # first line of the docstring of the function, or of its class or file

    @property
    def cause(self) -> str:
        """What is wrong: the message up to its first semicolon."""
        return self.template.partition(";")[0].strip()

    @property
    def remedy(self) -> str:
        """What to do next: the message after its first semicolon, or nothing."""
        return self.template.partition(";")[2].strip()

    @property
    def shape(self) -> str:
        """The message without the names of its placeholders: equal for sites with the same cause."""
        return re.sub(r"<[^<>]*>", "<>", self.template)


def sites(package: Path = PACKAGE, id: str = "") -> list[Site]:
    """All places that raise an error, by id and file.

    Args: package: folder of Python files; id: only this one, which is quicker
    """
    found: list[Site] = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if ID.search(text) and id in text:
            found += _Reader(path.relative_to(package), ast.parse(text)).sites()
    return sorted((site for site in found if id in ("", site.id)), key=lambda site: site.id)


class _Reader:
    """The errors of one file."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        parts = [name for name in path.with_suffix("").parts if name != "__init__"]
        self.module = ".".join(["eqff", *parts])
        self.tree = tree
        self.functions = {node.name: node for node in tree.body if isinstance(node, Function)}
        self.constants: dict[str, str] = {}
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    self.constants[name] = text

    def sites(self) -> Iterator[Site]:
        yield from self._below(self.tree, [self.tree])

    def _below(self, node: ast.AST, scopes: list[ast.AST]) -> Iterator[Site]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and len(child.args) == 2:
                ids = [n.value for n in ast.walk(child.args[0]) if isinstance(n, ast.Constant) and _is_id(n.value)]
                for id in ids:
                    yield self._site(str(id), child, scopes)
            inside = isinstance(child, Function | ast.ClassDef)
            yield from self._below(child, [*scopes, child] if inside else scopes)

    def _site(self, id: str, call: ast.Call, scopes: list[ast.AST]) -> Site:
        documented = [s for s in scopes if isinstance(s, Function | ast.ClassDef | ast.Module) and ast.get_docstring(s)]
        docstring = ast.get_docstring(documented[-1]) if documented else ""  # type: ignore[arg-type]
        names = [scope.name for scope in scopes if isinstance(scope, Function | ast.ClassDef)]
        return Site(
            id,
            ast.unparse(call.func),
            self._text(call.args[1], call, scopes[-1]),
            ".".join([self.module, *names]),
            call.lineno,
            (docstring or "").partition("\n")[0],
        )

    def _text(self, node: ast.expr, call: ast.Call | ast.Return, scope: ast.AST) -> str:
        """The message as a template."""
        if isinstance(node, ast.Name):
            before = [other for other in _assignments(scope, node.id) if other.lineno < call.lineno]
            if before:
                return self._text(max(before, key=lambda other: other.lineno).value, call, scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
            function = self.functions[node.func.id]
            for inner in ast.walk(function):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    return self._text(inner.value, inner, function)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left, call, scope) + self._text(node.right, call, scope)
        if isinstance(node, ast.JoinedStr):
            return "".join(self._text(part, call, scope) for part in node.values)
        if isinstance(node, ast.Constant):
            return str(node.value)
        value = node.value if isinstance(node, ast.FormattedValue) else node
        if isinstance(value, ast.Name) and value.id in self.constants:
            return self.constants[value.id]
        return f"<{_placeholder(value)}>"


def _is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def _assignments(scope: ast.AST, name: str) -> Iterator[ast.Assign]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            yield node


def _placeholder(node: ast.expr) -> str:
    """A word or two for an expression, e.g. "path" for `{self.path}` or `{str(path)!r}`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=value):
            return str(value)
        case ast.Attribute(value=owner, attr="__name__" | "strerror" | "message" | "value"):
            return _placeholder(owner)
        case ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Subscript(value=owner) | ast.BinOp(left=owner) | ast.UnaryOp(operand=owner) | ast.Starred(value=owner):
            return _placeholder(owner)
        case ast.BoolOp(values=[first, *_]):
            return _placeholder(first)
        case ast.IfExp(body=one, orelse=other):
            return " or ".join(dict.fromkeys(word for word in (_placeholder(one), _placeholder(other)) if word))
        case ast.GeneratorExp(generators=[first, *_]) | ast.ListComp(generators=[first, *_]):
            return _placeholder(first.iter)
        case ast.JoinedStr(values=parts):
            return " ".join(_placeholder(part.value) for part in parts if isinstance(part, ast.FormattedValue))
        case ast.Call(func=ast.Name(id="len"), args=[of]):
            return f"number of {_placeholder(of)}"
        case ast.Call(func=ast.Name(id="type"), args=[of]):
            return f"type of {_placeholder(of)}"
        case ast.Call(args=[first, *_]):
            return _placeholder(first)
        case ast.Call(func=ast.Attribute(value=owner)):
            return _placeholder(owner)
    return ast.unparse(node)
