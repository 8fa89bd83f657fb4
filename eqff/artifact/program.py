"""The TorchScript program of a potential file: loading, proving, and cheap first calls."""

import hashlib
import io
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from eqff.artifact import vectors
from eqff.artifact.archive import Contents, read
from eqff.artifact.header import DTYPES, dtypes, failed_checks, run_dtype
from eqff.artifact.potential import Potential
from eqff.cache import private_cache
from eqff.errors import ConfigError, PotentialError, ResourceError, last_line
from eqff.potential import GradientEvaluator

# Loading a potential imports none of these: export proves it in a fresh process.
FOREIGN = (
    *("e3nn", "torch_geometric", "h5py", "lightning", "matplotlib"),
    *("eqff.models", "eqff.nn", "eqff.o3", "eqff.data", "eqff.training"),
)
SWITCH = threading.RLock()


def load(contents: Contents, device: str = "cpu", dtype: str = "auto") -> Potential:
    """The potential on the program of its file; see `eqff.artifact.load`."""
    if dtype not in ("auto", *DTYPES):
        raise ConfigError("EQ1101", f"dtype={dtype!r} is unknown; choose auto, {' or '.join(DTYPES)}")
    place = _device(device)
    path, stored = contents.path, contents.header["dtype"]
    if dtype not in ("auto", *dtypes(contents.header)):
        raise ConfigError("EQ1299", f"dtype={dtype!r}: the wrapped program in {path} runs with {stored} only; use auto")
    failed = failed_checks(contents.header)
    if failed:
        warnings.warn(
            f"{path}: this wrapped program failed its checks of {', '.join(failed)}; see `eqff inspect`", stacklevel=3
        )
    of_run = getattr(torch, run_dtype(contents.header) if dtype == "auto" else dtype)
    with torch.device("cpu"), torch.inference_mode(False):  # whatever the caller's default device and mode are
        module = load_module(contents, place, of_run)
        expected = [vectors.to_device(vector, place) for vector in vectors.unpack(contents)]
    _check_header(module, contents)
    evaluator = GradientEvaluator(module)
    with cheap_first_call():
        smallest = min(expected, key=lambda vector: vector.structure.senders.shape[0])
        vectors.evaluate(evaluator, smallest.structure, smallest.edge_vector)
    _check_once(contents, module, of_run, place, expected)
    header = contents.header
    return Potential(
        evaluator=evaluator,
        module=module,
        species=tuple(header["species"]),
        r_max=float(header["r_max"]),
        n_hops=header["n_hops"],
        dtype=of_run,
        device=place,
        header=header,
        path=path,
    )


def load_module(contents: Contents, device: torch.device, dtype: torch.dtype) -> torch.jit.ScriptModule:
    """TorchScript module from verified bytes, weights in dtype; this executes code from the file."""
    try:
        module = torch.jit.load(io.BytesIO(contents.content), map_location=device)
    except RuntimeError as error:
        reason = last_line(error)
        raise PotentialError(
            "EQ4132", f"{contents.path}: torch {torch.__version__} cannot load the program ({reason}); rebuild it"
        ) from error
    if dtype != getattr(torch, contents.header["dtype"]):
        module.to(dtype)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _check_header(module: torch.jit.ScriptModule, contents: Contents) -> None:
    """Compare what the program states about itself.  Raises: PotentialError EQ4508"""
    for name in ("n_hops", "r_max"):
        stated, found = contents.header[name], getattr(module, name, None)
        if isinstance(found, int | float) and found != stated:
            raise PotentialError(
                "EQ4508",
                f"{contents.path}: header {name}={stated}, but the program has {name}={found}; do not use this file",
            )


@contextmanager
def cheap_first_call() -> Iterator[None]:
    """A module whose first call happens in this context keeps torch's simple executor.

    The default executor profiles and recompiles during the first three calls, seconds for a real model, and is not
    faster afterwards.  Each module chooses at its first call; the global switch is restored.
    """
    with SWITCH:  # two loads at once must not restore each other's value
        previous = torch._C._jit_set_profiling_mode(False)
        try:
            yield
        finally:
            torch._C._jit_set_profiling_mode(previous)


def prove(path: Path) -> None:
    """Check all test vectors three times, both as any program with torch would run them and as `load` does.

    To be called in a fresh process: it also checks that loading imported nothing but torch.

    Raises: PotentialError
    """
    contents = read(path)
    expected = vectors.unpack(contents)
    stored = contents.header["dtype"]
    for dtype in {getattr(torch, name) for name in {"float64", stored} & set(dtypes(contents.header))}:
        evaluator = GradientEvaluator(load_module(contents, torch.device("cpu"), dtype))
        for call in (1, 2, 3):  # torch's default executor runs other code in each of them
            for vector in expected:
                vectors.check(evaluator, vector, dtype, contents.header, f"{path}, call {call}")
    potential = load(contents)
    for _ in range(3):
        for vector in expected:
            vectors.check(potential.evaluator, vector, potential.dtype, contents.header, str(path))
    loaded = [name for name in FOREIGN if name in sys.modules]
    if loaded:
        raise PotentialError(
            "EQ4133", f"{path}: loading it imported {', '.join(loaded)}; export a model that needs only torch"
        )


def _check_once(
    contents: Contents,
    module: torch.jit.ScriptModule,
    dtype: torch.dtype,
    device: torch.device,
    expected: list[vectors.Expected],
) -> None:
    """Check the largest test vector, unless this file passed before on this device with this torch.

    Once with float64 weights, of a fresh module that needs no casting back, and once in the dtype of the run.
    """
    marker = _marker(contents.digest, dtype, device)
    if marker is not None and marker.is_file():
        return
    vector = max(expected, key=lambda vector: vector.structure.senders.shape[0])
    where = f"{contents.path} on {device}"
    if dtype != torch.float64 and "float64" in dtypes(contents.header):
        exact = GradientEvaluator(load_module(contents, device, torch.float64))
        with cheap_first_call():
            vectors.check(exact, vector, torch.float64, contents.header, where)
    vectors.check(GradientEvaluator(module), vector, dtype, contents.header, where)
    if marker is not None:
        try:
            marker.touch(mode=0o600)
        except OSError:
            return  # checked again next time


def _marker(digest: str, dtype: torch.dtype, device: torch.device) -> Path | None:
    """File whose presence says that a check passed; None without a private cache."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    key = "\n".join([digest, str(dtype), device.type, hardware, torch.__version__])
    directory = private_cache("verified")
    return None if directory is None else directory / hashlib.sha256(key.encode()).hexdigest()


def _device(device: str) -> torch.device:
    """torch.device that exists here.  Raises: ConfigError for a name torch does not know, ResourceError if absent."""
    place: torch.device | None
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or place.type not in ("cpu", "cuda"):
        raise ConfigError("EQ1102", f"device={device!r} is unknown; choose cpu, cuda or cuda:<n>")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            "EQ6102", f"device={device!r}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; use cpu"
        )
    return place
