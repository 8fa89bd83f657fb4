"""Whether a header says what the other members of its file say.

The hashes of a file show damage, not a header that somebody changed on purpose, or by mistake: with C and H exchanged
there, every result would be wrong in silence.  Read with Python alone, so that `eqff inspect` refuses such a file, too.
"""

import json
import math
import struct
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqff.artifact.header import is_wrapped
from eqff.elements import atomic_number
from eqff.errors import PotentialError

SLACK = 1e-9  # relative, of lengths that were rounded


def check(header: Mapping[str, Any], vectors: bytes, weights: bytes | None, path: Path) -> None:
    """Compare a header with its own config, the test vectors and the weights.

    Members that are no safetensors are left to those who use them, and refuse them.

    Raises: PotentialError EQ4504 config, EQ4505 species, EQ4506 r_max, EQ4507 weights
    """
    if not is_wrapped(header):
        config = header["config"]
        for name in ("species", "r_max", "reference_energies"):
            if name in config and not _agree(header[name], config[name]):
                shown = f"{name}={_shown(header[name])}, config.{name}={_shown(config[name])}"
                raise PotentialError("EQ4504", f"{path}: header {shown}, expected the same; do not use this file")
    numbers = [atomic_number(symbol) for symbol in header["species"]]
    tensors = _tensors(vectors)
    for name in tensors:
        k, _, field = name.partition(".")
        if field == "species":
            species, found = (_numbers(tensors.get(f"{k}.{part}"), "I64", "q") for part in (field, "atomic_numbers"))
            pairs = zip(species, found, strict=False)
            if any(0 <= index < len(numbers) and numbers[index] != number for index, number in pairs):
                raise PotentialError(
                    "EQ4505",
                    f"{path}: header species={header['species']} contradict the elements of test vector {k}; "
                    "do not use this file",
                )
        elif field == "edge_vector":
            longest = _longest(_numbers(tensors[name], "F64", "d"))
            if not longest <= header["r_max"] * (1.0 + SLACK):
                raise PotentialError(
                    "EQ4506",
                    f"{path}: header r_max={header['r_max']:g} Å, but test vector {k} has an edge of {longest:g} Å; "
                    "do not use this file",
                )
    if weights is not None:
        embedding = _tensors(weights).get("embedding")
        rows = embedding[1][0] if embedding is not None and embedding[1] else len(numbers)
        if rows != len(numbers):
            raise PotentialError(
                "EQ4507",
                f"{path}: weights of {rows} species, header species={header['species']}; do not use this file",
            )


def _agree(stated: Any, configured: Any) -> bool:
    """Equal; a config may leave a list of zeros empty."""
    return bool(stated == configured) or (configured == [] and isinstance(stated, list) and not any(stated))


def _tensors(member: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """Name -> dtype, shape, bytes of a safetensors member; {} if it is none."""
    try:
        (size,) = struct.unpack_from("<Q", member)
        table, start = json.loads(member[8 : 8 + size]), 8 + size
        return {
            name: (
                entry["dtype"],
                list(entry["shape"]),
                member[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            )
            for name, entry in table.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError):
        return {}


def _numbers(tensor: tuple[str, list[int], bytes] | None, dtype: str, code: str) -> "array[Any]":
    """Numbers of a tensor; none if it has another dtype."""
    if tensor is None or tensor[0] != dtype:
        return array(code)
    numbers = array(code, tensor[2][: len(tensor[2]) // 8 * 8])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _longest(edges: "array[Any]") -> float:
    """Length of the longest of these vectors [3 n_edges]; infinite if one is not finite."""
    squares = [x * x + y * y + z * z for x, y, z in zip(edges[::3], edges[1::3], edges[2::3], strict=False)]
    return math.sqrt(max(squares, default=0.0)) if all(map(math.isfinite, squares)) else math.inf


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
