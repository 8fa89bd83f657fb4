"""TOML or a mapping -> any frozen dataclass, strictly, and back.  Knows no dataclass itself.

Whole numbers stand for floats; nothing else is converted: no strings for numbers, no booleans for integers.
"""

import contextlib
import copy
import dataclasses
import difflib
import json
import numbers
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from eqff.errors import ConfigError, ResourceError

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "config") -> T:
    """Build a dataclass, with dataclasses inside it, from nested mappings of plain values.

    Args:    cls: a dataclass; mapping: keys are field names; where: what error messages call the mapping
    Returns: an instance of cls; fields that are not given keep their defaults
    Raises:  ConfigError EQ1010 a value of another type, EQ1011 an unknown key, EQ1012 a missing key, EQ1013 a value
             that the dataclass refuses, EQ1016 a value without a plain form: with the path of the key
    """
    from pydantic import ValidationError

    text = json.dumps({"config": _plain(mapping)})
    try:
        return _validator(cls).model_validate_json(text).config  # type: ignore[arg-type]
    except ValidationError as failure:
        raise _error(cls, mapping, where, failure.errors(include_url=False)) from failure


def from_toml(cls: type[T], path: str | Path) -> T:
    """Build a dataclass from a TOML file.

    Raises: ConfigError as from_mapping, and as read_toml
    """
    return from_mapping(cls, read_toml(path), where=str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The plain nested mapping of a TOML file.

    Raises: ConfigError EQ1014 if the file cannot be read, EQ1015 with the line if it is not TOML
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("EQ1014", f"{path}: cannot be read ({error.strerror}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("EQ1015", f"{path}: not valid TOML: {error}; correct the file there") from error


def overridden(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of a nested mapping with `key.path=value` strings applied; values are read as TOML, else as text.

    Raises: ConfigError EQ1017 for a string without `=`, EQ1019 for a path that leads through a value
    """
    result = copy.deepcopy(dict(mapping))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        steps = [step.strip() for step in path.split(".")]
        if not equals or not all(steps):
            raise ConfigError("EQ1017", f"--set {assignment} is not KEY=VALUE; write e.g. training.epochs=100")
        table = result
        for step in steps[:-1]:
            table = table.setdefault(step, {})
            if not isinstance(table, dict):
                raise ConfigError("EQ1019", f"--set {assignment}: {step} is a value, not a table; set {step} itself")
        try:
            table[steps[-1]] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:  # bare words need no quotes on a command line
            table[steps[-1]] = text.strip()
    return result


@contextlib.contextmanager
def blaming(assignments: Iterable[str], where: str) -> Iterator[None]:
    """Within this context, an error at a key that a `key.path=value` string sets names that string and not `where`.

    Raises: ConfigError, as from_mapping does with this `where`
    """
    try:
        yield
    except ConfigError as error:
        message = error.message.removeprefix(f"{where}.")
        for assignment in assignments:
            path = ".".join(step.strip() for step in assignment.partition("=")[0].split("."))
            if message != error.message and re.match(rf"{re.escape(path)}\b", message):
                raise ConfigError(error.id, f"--set {assignment}: {message}") from error
        raise


def to_mapping(obj: Any) -> dict[str, Any]:
    """Dataclass -> nested mapping of plain values (TOML and JSON types and None; tuples become lists).

    Raises: ConfigError EQ1016 for a value without a plain form
    """
    return _plain(obj)


def to_toml(obj: Any) -> str:
    """Dataclass -> TOML text; from_toml gives an equal object back.  None, which TOML lacks, is left out.

    Raises: ConfigError EQ1016 for a value without a plain form, EQ1018 for a None where leaving the key out would
            mean something else; ResourceError EQ6001 when tomli-w is not installed
    """
    try:
        import tomli_w
    except ImportError as error:
        raise ResourceError("EQ6001", "tomli-w is not installed; run `pip install 'eqff[train]'`") from error
    return tomli_w.dumps(_without_none(obj, _plain(obj)))


@cache
def _validator(cls: Any) -> Any:
    """A pydantic model whose field `config` is the dataclass; dataclasses inside it inherit the strictness."""
    from pydantic import ConfigDict, create_model

    return create_model("Validator", __config__=ConfigDict(extra="forbid", strict=True), config=(cls, ...))


def _error(cls: type, mapping: Any, where: str, details: Sequence[Any]) -> ConfigError:
    """The first problem that pydantic lists; unknown keys come before the missing keys they were meant for."""
    detail = next((d for d in details if d["type"] == "unexpected_keyword_argument"), details[0])
    steps, value, hint = _follow(cls, mapping, detail["loc"][1:])
    path = where + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    match detail["type"]:
        case "unexpected_keyword_argument":
            return ConfigError("EQ1011", f"{path}: unknown key; {_nearest_key(str(steps[-1]), _fields(hint))}")
        case "missing":
            name = detail["loc"][-1]
            return ConfigError("EQ1012", f"{path}.{name}: missing; give it as {_type_name(_fields(hint)[name])}")
        case "value_error":
            return ConfigError("EQ1013", f"{path}: {detail['ctx']['error']}; correct the value")
    same = [d for d in details if _follow(cls, mapping, d["loc"][1:])[0][: len(steps)] == steps]
    expected = dict.fromkeys(
        _type_name(hint) if d["type"] in ("dataclass_type", "dict_type") else d["msg"].removeprefix("Input should be ")
        for d in same
    )
    allowed = [word for d in same for word in re.findall("'([^']*)'", str(d.get("ctx", {}).get("expected")))]
    guess = difflib.get_close_matches(str(value), allowed, n=1)
    remedy = f"did you mean {guess[0]!r}?" if guess else "correct the value"
    return ConfigError("EQ1010", f"{path}={_shown(value)}: expected {' or '.join(expected)}; {remedy}")


def _follow(hint: Any, value: Any, loc: Iterable[str | int]) -> tuple[list[str | int], Any, Any]:
    """Steps of pydantic's path that lead through the value (it names members of unions, too), its end, and its type."""
    steps: list[str | int] = []
    for step in loc:
        indexed = isinstance(step, int) and isinstance(value, list | tuple)
        if indexed or (isinstance(value, Mapping) and step in value):
            value, hint = value[step], _fields(hint).get(step, hint)  # type: ignore[index]
            steps.append(step)
    return steps, value, hint


def _fields(hint: Any) -> dict[Any, Any]:
    """Name -> type of the fields of the dataclass that a type is or holds; nothing for other types."""
    if not dataclasses.is_dataclass(hint):
        return next((fields for fields in map(_fields, get_args(hint)) if fields), {})
    hints = get_type_hints(hint, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(hint) if field.init}


def _nearest_key(key: str, known: Mapping[str, Any]) -> str:
    """Did-you-mean: the nearest key here, the same key in a table below, or all keys."""
    guesses = difflib.get_close_matches(key, known, n=1)
    guesses += [f"{name}.{key}" for name, hint in known.items() if key in _fields(hint)]
    return f"did you mean {guesses[0]!r}?" if guesses else f"known keys: {', '.join(known) or 'none'}"


def _type_name(hint: Any) -> str:
    """What to write in TOML, for a table; else the type."""
    if dataclasses.is_dataclass(hint):
        missing = dataclasses.MISSING
        needed = [f.name for f in dataclasses.fields(hint) if f.init and f.default is f.default_factory is missing]
        return "a table" + (f" with {', '.join(needed)}" if needed else "")
    if get_origin(hint) is dict:
        return "a table"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: Any) -> Any:
    """Value -> TOML and JSON types and None."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="constants", fallback=_plain_number)


def _plain_number(value: Any) -> int | float:
    """A number of numpy or torch -> one of Python."""
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    raise ConfigError(
        "EQ1016", f"{_shown(value)}: type {type(value).__name__} has no plain TOML or JSON form; give text or numbers"
    )


def _without_none(obj: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """The plain form of a dataclass without the keys that are None."""
    table = {}
    for field in (field for field in dataclasses.fields(obj) if field.name in plain):
        value, item = getattr(obj, field.name), plain[field.name]
        if item is None and field.default is not None:
            raise ConfigError("EQ1018", f"{field.name}=None cannot be written: TOML has no null; give a value")
        if dataclasses.is_dataclass(value):
            item = _without_none(value, item)
        elif isinstance(value, tuple | list):
            item = [_without_none(v, i) if dataclasses.is_dataclass(v) else i for v, i in zip(value, item, strict=True)]
        if item is not None:
            table[field.name] = item
    return table
