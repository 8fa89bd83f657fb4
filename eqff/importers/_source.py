"""Reading a foreign model: configuration and weights, without running anything that is in the file.

.npz          keys `config` (JSON), `w/<name>`, and `versions` (JSON) if there is one; no pickles
.safetensors  weights alone
.pt .pth .ckpt .pth.tar   a checkpoint of torch, read with weights_only=True: a state dict, or a table that holds one
"""

import hashlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from eqff.config import read_toml
from eqff.elements import SYMBOLS
from eqff.errors import PotentialError

STATES = ("state_dict", "model_state_dict", "model", "module")  # where checkpoints keep their weights
CONFIGS = ("config", "hyper_parameters")  # and their configuration, if any
BESIDE = ("normalizers", "elementrefs")  # numbers that belong to the model but stand beside its weights


class Source(NamedTuple):
    """A foreign model, as it was stored."""

    config: dict[str, Any]
    state: dict[str, np.ndarray]
    versions: dict[str, str]  # of the packages that made it, if the file says so
    species: list[str]  # elements of its types, where an example in the file shows them; else empty
    path: Path
    sha256: str


class Unread:
    """In place of an array of NumPy in a configuration, which is never built: weights are tensors."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


UNREAD = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)


def read(path: str | Path, config_path: str | Path | None = None, content: bytes | None = None) -> Source:
    """Configuration and weights of a foreign model.

    Args:   path: see above; config_path: JSON or TOML, instead of the configuration in the file; content: of the file,
            if it is inside another one
    Raises: PotentialError for a file that is none of these, or lacks weights or configuration; ConfigError for TOML
            that cannot be read
    """
    path = Path(path)
    try:
        content = path.read_bytes() if content is None else content
    except OSError as error:
        raise PotentialError("EQ4350", f"{path}: cannot be read ({error.strerror}); give a file of weights") from error
    versions: dict[str, str] = {}
    species: list[str] = []
    config: dict[str, Any] = {}
    if path.suffix == ".npz":
        config, state, versions, species = _npz(path, content)
    elif path.suffix == ".safetensors":
        state = _safetensors(path, content)
    else:
        config, state = _checkpoint(path, content)
    if not state:
        raise PotentialError("EQ4351", f"{path}: holds no weights; give a state dict, or an npz with w/<name> arrays")
    if config_path is not None:
        config = _config_file(Path(config_path))
    if not config:
        raise PotentialError("EQ4301", f"{path}: has no 'config'; give the model's configuration with --config FILE")
    return Source(config, state, versions, species, path, hashlib.sha256(content).hexdigest())


def _npz(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str], list[str]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            state = {name[2:]: file[name] for name in file.files if name.startswith("w/")}
            tables = {name: json.loads(str(file[name])) for name in ("config", "versions") if name in file.files}
            example = {name: file[f"in/{name}"] for name in ("atom_types", "numbers") if f"in/{name}" in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise PotentialError(
            "EQ4352", f"{path}: not an npz file of arrays and JSON text ({error}); save the weights with numpy.savez"
        ) from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise PotentialError("EQ4911", f"{path}: {name} is not a table; write it as JSON, {{...}}")
    versions = {name: str(version) for name, version in tables.get("versions", {}).items()}
    return tables.get("config", {}), state, versions, _species_of(example)


def _species_of(example: Mapping[str, np.ndarray]) -> list[str]:
    """Symbols of types 0, 1, ... if a structure in the file contains all of them and states its elements."""
    if len(example) < 2:
        return []
    types, numbers = (array.reshape(-1).tolist() for array in (example["atom_types"], example["numbers"]))
    found = dict(zip(types, numbers, strict=False))
    if len(types) != len(numbers) or sorted(found) != list(range(len(found))):
        return []
    return [SYMBOLS[found[k]] for k in range(len(found))]


def _safetensors(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise PotentialError("EQ4353", f"{path}: not a safetensors file ({error}); download it again") from error


def _checkpoint(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A state dict, or a table with one inside."""
    if _is_program(content):
        raise PotentialError(
            "EQ4354", f"{path}: is a TorchScript program, not weights; use `eqff wrap`, or give the training checkpoint"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(Unread, name) for name in UNREAD]):
            warnings.simplefilter("ignore")  # of torch, about its own older formats
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PotentialError(
            "EQ4355",
            f"{path}: holds Python objects, which are never loaded because they can run code; where you trust the "
            "file, store its weights alone: torch.save(model.state_dict(), ...), and the configuration as JSON",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PotentialError(
            "EQ4356",
            f"{path}: not a checkpoint of torch ({reason}); download it again, or save the weights with torch.save",
        ) from error
    if not isinstance(found, Mapping):
        raise PotentialError("EQ4357", f"{path}: holds a {type(found).__name__}; save a state dict instead")
    state: Mapping[str, Any] = next((found[name] for name in STATES if isinstance(found.get(name), Mapping)), found)
    config: Mapping[str, Any] = next((found[name] for name in CONFIGS if isinstance(found.get(name), Mapping)), {})
    arrays = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for name in BESIDE:
        if state is not found and isinstance(found.get(name), Mapping):
            arrays |= dict(_flat(found[name], name))
    return dict(config), {name: _array(value) for name, value in arrays.items()}


def _is_program(content: bytes) -> bool:
    """Whether torch.jit.save wrote it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False  # torch's older format


def _flat(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}.{name}")
        elif isinstance(value, Tensor | float | int):
            yield f"{where}.{name}", torch.as_tensor(value)


def _array(value: Tensor) -> np.ndarray:
    """Half precision becomes float32, which NumPy knows."""
    value = value.detach()
    return (value.to(torch.float32) if value.dtype == torch.bfloat16 else value).numpy()


def _config_file(path: Path) -> dict[str, Any]:
    if path.suffix in (".yaml", ".yml"):
        raise PotentialError("EQ4358", f"{path}: YAML is not read (it takes 1e-3 for text); convert it to JSON or TOML")
    if path.suffix == ".toml":
        return read_toml(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PotentialError(
            "EQ4359", f"{path}: cannot be read as JSON ({error}); save the configuration as JSON"
        ) from error
    if not isinstance(found, dict):
        raise PotentialError(
            "EQ4912", f"{path}: expected a table, JSON such as {{...}}; save the configuration as a JSON object"
        )
    return found
