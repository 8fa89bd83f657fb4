"""Compiling C++ on the user's machine, once: the result lives in the user's cache."""

import atexit
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from eqff.cache import is_private_file, private_cache
from eqff.errors import ResourceError
from eqff.files import locked, new_file, scratch_folder

FOLDER = Path(__file__).parent
OPTIMISED = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-ffp-contract=fast")  # NaN stays NaN
INSTRUCTIONS = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
}


def compiler() -> str | None:
    """Path of a C++ compiler that knows GCC's vector extensions ($CXX, g++ or clang++), or None."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        path = shutil.which(name) if name else None
        if path:
            return path
    return None


def capability() -> str:
    """Vector instructions of this CPU that torch would use: AVX512, AVX2, or a name for which no flags are set."""
    return torch.backends.cpu.get_cpu_capability()


@functools.cache
def processor() -> str:
    """Properties of this CPU, beyond `capability`, that programs compiled for it depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next(
        (line for line in lines if line.lower().startswith(("flags", "features"))), lines[0] if lines else ""
    )
    return f"{platform.machine()} {capability()} {features}"


def kernel_library(name: str, source: str) -> Path:
    """Shared library of a generated kernel, which needs no torch.

    Raises: ResourceError without a compiler, or if it fails
    """
    flags = [*OPTIMISED, *INSTRUCTIONS.get(capability(), ()), "-I", str(FOLDER)]
    return _library(_path(name, source, flags), source, flags)


def find_kernel(file: str) -> Path | None:
    """A kernel compiled before, by the name of its file; None if it is no longer in the cache."""
    path = _folder() / Path(file).name
    return path if is_private_file(path) else None


def operators_library(find_only: bool = False) -> Path | None:
    """Shared library of the operators `eqff::*`, compiled against this torch.

    Args:   find_only: None instead of compiling
    Raises: ResourceError without a compiler, or if it fails
    """
    home = Path(torch.__file__).parent
    source = FOLDER / "operators.cpp"
    flags = [*OPTIMISED, *INSTRUCTIONS.get(capability(), ()), "-fopenmp", "-I", str(FOLDER)]
    flags += ["-I", str(home / "include")]
    flags += ["-I", str(home / "include" / "torch" / "csrc" / "api" / "include"), "-w"]
    flags += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    flags += [f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10"]
    path = _path("operators", source.read_text(), flags)
    if find_only:
        return path if is_private_file(path) else None
    return _library(path, source.read_text(), flags)


def _path(name: str, source: str, flags: list[str]) -> Path:
    options = " ".join(flag for flag in flags if "/" not in flag)  # the same wherever eqff and torch are installed
    key = [source, (FOLDER / "kernel.h").read_text(), options, torch.__version__, platform.machine()]
    return _folder() / f"{name}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:24]}.so"


def _library(target: Path, source: str, flags: list[str]) -> Path:
    if is_private_file(target):
        return target
    program = compiler()
    if program is None:
        raise ResourceError("EQ6110", "no C++ compiler found; install g++ or clang++, or set CXX")
    with locked(target, wait=True):  # other processes wait for the first
        if not is_private_file(target):
            _compile(program, source, flags, target)
    return target


def _compile(program: str, source: str, flags: list[str], target: Path) -> None:
    with new_file(target, force=True) as product, scratch_folder(target) as scratch:
        code = scratch / "source.cpp"
        code.write_text(source)
        libraries = [flag for flag in flags if flag.startswith(("-l", "-L"))]
        options = [flag for flag in flags if flag not in libraries]
        command = [program, *options, str(code), "-o", str(product), *libraries]
        environment = {**os.environ, "TMPDIR": str(scratch)}  # of the compiler's own files
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines()
            reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
            raise ResourceError(
                "EQ6111",
                f"{program} cannot compile {target.name}: {reason.strip()}; set CXX to a g++ or clang++ that works, "
                "or go on without (everything runs on ATen, more slowly)",
            )


@functools.cache
def _folder() -> Path:
    """The user's cache, or a folder for this process alone."""
    cache = private_cache("kernels")
    if cache is not None and os.access(cache, os.W_OK):
        return cache
    scratch = tempfile.mkdtemp(prefix="eqff-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return Path(scratch)
