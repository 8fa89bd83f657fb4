"""TOML or a mapping -> any frozen dataclass, strictly, and back.  Knows no dataclass itself.

Whole numbers stand for floats; nothing else is converted: no strings for numbers, no booleans for integers.
"""

import contextlib
import dataclasses
import difflib
import numbers
import re
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eqff.errors import ConfigError, ResourceError

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "config") -> T:
    """Build a dataclass, with dataclasses inside it, from nested mappings of plain values.

    Args:    cls: a dataclass; mapping: keys are field names; where: what error messages call the mapping
    Returns: an instance of cls; fields that are not given keep their defaults
    Raises:  ConfigError naming the key path, its value, what was expected and the nearest known key
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError("EQ1010", f"{where}={_shown(mapping)}: expected {_type_name(cls)}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls, include_extras=True)
    for key in mapping:
        if key not in fields:
            raise ConfigError("EQ1011", f"{where}.{key}: unknown key; {_nearest_key(str(key), list(fields), hints)}")
    for name, field in fields.items():
        if name not in mapping and _required(field):
            raise ConfigError("EQ1012", f"{where}.{name}: missing; expected {_type_name(hints[name])}")
    values = {name: _value(hints[name], value, f"{where}.{name}") for name, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own __post_init__
        raise ConfigError("EQ1013", f"{where}: {error}") from error


def from_toml(cls: type[T], path: str | Path) -> T:
    """Build a dataclass from a TOML file.

    Raises: ConfigError as from_mapping, and when the file is missing or not TOML (with its line)
    """
    return from_mapping(cls, read_toml(path), where=str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The plain nested mapping of a TOML file.  Raises: ConfigError when the file is missing or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("EQ1014", f"{path}: cannot be read ({error.strerror}); give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("EQ1015", f"{path}: not valid TOML: {error}") from error


def overridden(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of a nested mapping with `key.path=value` strings applied; values are read as TOML, else as text.

    Raises: ConfigError for a string without `=` or a path that leads through something that is no table
    """
    result = _copied(mapping)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        steps = [step.strip() for step in path.split(".")]
        if not equals or not all(steps):
            raise ConfigError("EQ1017", f"--set {assignment}: expected KEY=VALUE, e.g. training.epochs=100")
        table = result
        for step in steps[:-1]:
            table = table.setdefault(step, {})
            if not isinstance(table, dict):
                raise ConfigError("EQ1019", f"--set {assignment}: {step} is a value, not a table")
        try:
            table[steps[-1]] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:  # bare words need no quotes on a command line
            table[steps[-1]] = text.strip()
    return result


@contextlib.contextmanager
def blaming(assignments: Iterable[str], where: str) -> Iterator[None]:
    """Inside, an error at a key that one of the `key.path=value` strings has set names that string and not `where`.

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
    """Dataclass -> nested mapping of plain values (TOML and JSON types and None; tuples become lists)."""
    return {field.name: _plain(getattr(obj, field.name)) for field in dataclasses.fields(obj) if field.init}


def to_toml(obj: Any) -> str:
    """Dataclass -> TOML text; from_toml gives an equal object back.  None, which TOML lacks, is left out.

    Raises: ConfigError for a None where leaving the key out would mean something else;
            ResourceError when tomli-w is not installed
    """
    try:
        import tomli_w
    except ImportError as error:
        raise ResourceError("EQ6001", "tomli-w is not installed; run `pip install 'eqff[train]'`") from error
    return tomli_w.dumps(_without_none(obj))


def _copied(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}


def _value(hint: Any, value: Any, where: str) -> Any:
    """One value of the type `hint`: dataclasses are built here, everything else is judged by pydantic."""
    inner = _members(hint)
    table = next((member for member in inner if dataclasses.is_dataclass(member)), None)
    if table is not None and isinstance(table, type):
        if isinstance(value, table) or (value is None and type(None) in inner):
            return value
        return from_mapping(table, value, where)
    if isinstance(value, Sequence) and not isinstance(value, str):
        element = _element_table(hint, (tuple, list))
        if element is not None:
            built = [_value(element, item, f"{where}[{index}]") for index, item in enumerate(value)]
            return tuple(built) if get_origin(hint) is tuple else built
    if isinstance(value, Mapping):
        element = _element_table(hint, (dict,))
        if element is not None:
            return {str(key): _value(element, item, f"{where}.{key}") for key, item in value.items()}
    return _leaf(hint, value, where)


def _leaf(hint: Any, value: Any, where: str) -> Any:
    """Validate in pydantic's strict JSON mode: list -> tuple and whole number -> float, and no other conversion."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return TypeAdapter(hint).validate_json(to_json(value, inf_nan_mode="constants"), strict=True)
    except PydanticSerializationError as error:
        raise ConfigError("EQ1010", f"{where}={_shown(value)}: expected {_type_name(hint)}") from error
    except ValidationError as failure:
        details = failure.errors(include_url=False)
        path, offending = where, value
        for step in details[0]["loc"]:  # pydantic's path may also name members of a union: those do not index
            if isinstance(offending, Mapping) and step in offending:
                path, offending = f"{path}.{step}", offending[step]
            elif isinstance(step, int) and isinstance(offending, Sequence) and step < len(offending):
                path, offending = f"{path}[{step}]", offending[step]
        messages = dict.fromkeys(detail["msg"] for detail in details)
        reasons = " or ".join(m.removeprefix("Input should be ").removeprefix("Value error, ") for m in messages)
        guess = difflib.get_close_matches(str(offending), list(_literals(hint)), n=1)
        remedy = f"; did you mean {guess[0]!r}?" if guess else ""
        raise ConfigError("EQ1010", f"{path}={_shown(offending)}: expected {reasons}{remedy}") from failure


def _members(hint: Any) -> tuple[Any, ...]:
    """Members of a union, or the type alone; Annotated is looked through."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(inner for member in get_args(hint) for inner in _members(member))
    return (hint,)


def _element_table(hint: Any, containers: Iterable[type]) -> Any:
    """The dataclass that a container type holds, e.g. Data of tuple[Data, ...]; else None."""
    for member in _members(hint):
        if get_origin(member) in tuple(containers):
            for argument in get_args(member):
                if dataclasses.is_dataclass(argument):
                    return argument
    return None


def _literals(hint: Any) -> Iterator[str]:
    """Every string a type allows by name."""
    if get_origin(hint) is Literal:
        yield from (str(argument) for argument in get_args(hint))
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield from (str(member.value) for member in hint)
    else:
        for argument in get_args(hint):
            yield from _literals(argument)


def _nearest_key(key: str, known: list[str], hints: Mapping[str, Any]) -> str:
    """Did-you-mean: the nearest key here, the same key one table deeper, or all keys."""
    guess = difflib.get_close_matches(key, known, n=1)
    if guess:
        return f"did you mean {guess[0]!r}?"
    for name in known:
        for table in _members(hints[name]):
            if dataclasses.is_dataclass(table) and key in {field.name for field in dataclasses.fields(table)}:
                return f"did you mean '{name}.{key}'?"
    return f"known keys: {', '.join(known) or 'none'}"


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _type_name(hint: Any) -> str:
    """What to write in TOML, for a table; else the type."""
    if dataclasses.is_dataclass(hint):
        needed = [field.name for field in dataclasses.fields(hint) if field.init and _required(field)]
        return "a table" + (f" with {', '.join(needed)}" if needed else "")
    if get_origin(hint) is dict:
        return "a table"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    raise ConfigError("EQ1016", f"{_shown(value)} of type {type(value).__name__} has no plain TOML or JSON form")


def _without_none(obj: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        if not field.init:
            continue
        if value is None:
            if field.default is not None:
                raise ConfigError("EQ1018", f"{field.name}=None cannot be written: TOML has no null")
        elif dataclasses.is_dataclass(value):
            table[field.name] = _without_none(value)
        elif isinstance(value, tuple | list) and value and all(dataclasses.is_dataclass(item) for item in value):
            table[field.name] = [_without_none(item) for item in value]
        else:
            table[field.name] = _plain(value)
    return table
