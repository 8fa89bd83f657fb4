"""header.json: what a user must know about a potential before running it."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from eqff.elements import ATOMIC_NUMBERS, atomic_number
from eqff.errors import ConfigError, PotentialError

MAX_BYTES = 2**24  # of header.json
MAX_DEPTH = 32  # of tables and lists inside each other
FORMAT = 1
FORMAT_WRAPPED = 2  # a foreign program: no weights member, and the fields of WRAPPED_FIELDS
FORMAT_DIFFERENCE = 3  # energies are differences from those of header.baseline, which the reader must add
WRAPPED = "wrapped"  # family of wrapped programs; they cannot be rebuilt
DTYPES = ("float32", "float64")
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å^3"}
# What the author of a potential states; export writes "not stated" where nothing was said.
PROVENANCE = ("training_data", "metrics", "level_of_theory", "licence", "citation")


def to_json(header: Mapping[str, Any]) -> bytes:
    """Header as JSON text.  Raises: PotentialError for values JSON cannot carry (NaN, infinity, objects)."""
    try:
        return json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PotentialError("EQ4103", f"header: {error}; use plain finite numbers, text, lists and tables") from error


def from_json(text: bytes, where: str) -> dict[str, Any]:
    """Parse and check a header.

    Args:    text: of header.json; where: file name for messages
    Raises:  PotentialError naming the field and what was expected
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number")

    if len(text) > MAX_BYTES:
        raise PotentialError(
            "EQ4502", f"{where}: header.json has {len(text)} bytes, allowed {MAX_BYTES}; do not use this file"
        )
    try:
        header = json.loads(text, parse_constant=refuse, object_pairs_hook=_table)
        _check_plain(header)
    except (ValueError, RecursionError) as error:
        raise PotentialError("EQ4104", f"{where}: header.json is not JSON ({error}); export the model again") from error
    if not isinstance(header, dict):
        raise PotentialError("EQ4126", f"{where}: header.json is not a table; export the model again")
    if header.get("format") not in tuple(MORE_FIELDS) or isinstance(header["format"], bool):
        known = ", ".join(map(str, MORE_FIELDS))
        raise PotentialError(
            "EQ4105", f"{where}: format={header.get('format')!r}, this eqff reads {known}; install a matching eqff"
        )
    fields = FIELDS | MORE_FIELDS[header["format"]] | (DIFFERENCE_FIELDS if "baseline" in header else {})
    fields |= RUN_FIELDS if "run_dtype" in header else {}
    for name, (expected, is_valid) in fields.items():
        if name not in header or not is_valid(header[name]):
            shown = repr(header.get(name, "missing"))[:80]
            raise PotentialError("EQ4106", f"{where}: header {name}={shown}, expected {expected}; export it again")
    if not _is_training_data(header.get("training_data", "")):
        shown = repr(header["training_data"])[:80]
        raise PotentialError(
            "EQ4503", f"{where}: header training_data={shown}, expected formulas and numbers in it; export it again"
        )
    if len(header["reference_energies"]) != len(header["species"]):
        raise PotentialError(
            "EQ4107",
            f"{where}: {len(header['reference_energies'])} reference energies for "
            f"{len(header['species'])} species; export it again",
        )
    return header


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table whose keys are all different: other programs would read another one of two values."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return table


def _check_plain(header: Any) -> None:
    """Raises: ValueError for numbers and text that other parts of eqff could not compute with or print"""
    stack = [(header, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"tables and lists are nested more than {MAX_DEPTH} deep")
        if isinstance(value, dict):
            stack += ((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list):
            stack += ((part, depth + 1) for part in value)
        elif isinstance(value, str):
            value.encode()  # no half of a surrogate pair
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is too large")
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("a whole number is too large")


def is_wrapped(header: Mapping[str, Any]) -> bool:
    """Whether the program is foreign: it cannot be rebuilt, retrained or compiled."""
    return header.get("format") == FORMAT_WRAPPED


def failed_checks(header: Mapping[str, Any]) -> list[str]:
    """Names of the checks a wrapped program failed when its file was written."""
    return [check["check"] for check in header["verdict"] if not check["passed"]] if is_wrapped(header) else []


def dtypes(header: Mapping[str, Any]) -> tuple[str, ...]:
    """dtypes in which the weights of this file may be loaded."""
    return tuple(header["dtypes"]) if is_wrapped(header) else DTYPES


def run_dtype(header: Mapping[str, Any]) -> str:
    """dtype in which the weights run where the user names none: the stored one, unless the file says otherwise."""
    return str(header.get("run_dtype", header["dtype"]))


def _is_baseline(value: Any) -> bool:
    """Whether this names a calculator, and one structure with the results that it must reproduce."""
    if not isinstance(value, dict) or not isinstance(value.get("check"), dict):
        return False
    sha256, check = value.get("sha256"), value["check"]
    numbers = check.get("atomic_numbers")
    return (
        all(isinstance(value.get(name), str) and value[name] for name in ("name", "level_of_theory"))
        and (sha256 is None or (isinstance(sha256, str) and len(sha256) == 64))
        and isinstance(numbers, list)
        and numbers != []
        and all(_is_count(number) and 1 <= number <= 118 for number in numbers)
        and _is_finite(check.get("energy"))
        and all(_is_vectors(check.get(name), len(numbers)) for name in ("positions", "forces"))
        and _is_vectors(check.get("cell"), 3)
        and isinstance(check.get("pbc"), list)
        and [type(one) for one in check["pbc"]] == [bool] * 3
    )


def _is_vectors(value: Any, n: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == n
        and all(isinstance(row, list) and len(row) == 3 and all(map(_is_finite, row)) for row in value)
    )


def _is_verdict(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(check, dict)
        and isinstance(check.get("check"), str)
        and isinstance(check.get("passed"), bool)
        and isinstance(check.get("measured"), dict)
        for check in value
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_species(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(symbol, str) for symbol in value):
        return False
    try:
        return len({atomic_number(symbol) for symbol in value}) == len(value)
    except ConfigError:
        return False


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.+-]{1,100}", value) is not None


def _is_training_data(value: Any) -> bool:
    """Text, or a table; what eqff computes with has the right type there."""
    if not isinstance(value, dict):
        return isinstance(value, str)
    formulas, distance = value.get("compositions"), value.get("min_distance_A")
    return (
        formulas is None or (isinstance(formulas, list) and all(_is_formula(formula) for formula in formulas))
    ) and (distance is None or (_is_finite(distance) and distance >= 0))


def _is_formula(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"([A-Z][a-z]?\d{0,9})+", value):
        return False
    return all(symbol in ATOMIC_NUMBERS for symbol in re.findall(r"[A-Z][a-z]?", value))


def _is_member_table(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and len(entry["sha256"]) == 64
        and _is_count(entry.get("size"))
        for entry in value.values()
    )


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "family": ("the name of a model family", _is_name),
    "config": ("a table", lambda value: isinstance(value, dict)),
    "species": ("different chemical symbols", _is_species),
    "r_max": ("a positive length in Å", lambda value: _is_finite(value) and value > 0),
    "n_hops": ("a whole number >= 0", _is_count),
    "dtype": (" or ".join(DTYPES), lambda value: value in DTYPES),
    "units": (f"{UNITS}", lambda value: value == UNITS),
    "reference_energies": (
        "one finite energy in eV for each species",
        lambda value: isinstance(value, list) and all(_is_finite(energy) for energy in value),
    ),
    "versions": ("a table of package versions", lambda value: isinstance(value, dict)),
    "members": ("a table of SHA-256 and size", _is_member_table),
}

WRAPPED_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "family": (WRAPPED, lambda value: value == WRAPPED),
    "dtypes": (
        "a list of dtypes",
        lambda value: isinstance(value, list) and value != [] and all(dtype in DTYPES for dtype in value),
    ),
    "verdict": ("a list of checks", _is_verdict),
    "source": ("a table", lambda value: isinstance(value, dict)),
}

DIFFERENCE_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "baseline": ("name, level_of_theory, sha256 and check of another calculator", _is_baseline)
}

RUN_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "run_dtype": (" or ".join(DTYPES), lambda value: value in DTYPES)
}

MORE_FIELDS: dict[int, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    FORMAT: {},
    FORMAT_WRAPPED: WRAPPED_FIELDS,
    FORMAT_DIFFERENCE: DIFFERENCE_FIELDS,
}
