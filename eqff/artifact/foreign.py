"""TorchScript files of other programs: describing them without execution, and loading them."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

from eqff.artifact.archive import MAX_BYTES, MAX_MEMBERS, TAG
from eqff.errors import PotentialError, last_line

STOPS = (RuntimeError, IndexError, torch.jit.Error)  # exceptions of a TorchScript program that fails
MAX_NOTE = 65536  # bytes of one text beside the program


class Foreign(NamedTuple):
    """A TorchScript file, read once: what is described here is what `load` executes."""

    path: Path
    content: bytes
    digest: str  # SHA-256 of the file
    sources: list[str]  # TorchScript source members
    notes: dict[str, str]  # short texts beside the program (`_extra_files` of torch.jit.save), by name


def describe(path: str | Path) -> Foreign:
    """Read a TorchScript file without executing anything.

    Raises: PotentialError EQ4320 for a file that is missing, EQ4321 no TorchScript, EQ4322 a potential file already,
            EQ4391 too large, EQ4392 without a program
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PotentialError("EQ4320", f"{path}: cannot be read ({error.strerror}); check path and rights") from error
    remedy = "save the model with torch.jit.script(model).save(FILE)"
    if len(content) > MAX_BYTES:
        raise PotentialError("EQ4391", f"{path}: larger than {MAX_BYTES} bytes; {remedy}")
    if content.rfind(TAG) >= 0:
        raise PotentialError("EQ4322", f"{path}: is a potential file already; use it as it is")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()[:MAX_MEMBERS]
            names = [_printable(info.filename.partition("/")[2]) for info in infos]
            sources = [name for name in names if name.startswith("code/") and name.endswith(".py")]
            notes = {
                name.removeprefix("extra/"): archive.read(info).decode("utf-8", "replace")
                for name, info in zip(names, infos, strict=True)
                if name.startswith("extra/") and info.file_size <= MAX_NOTE and info.compress_type == zipfile.ZIP_STORED
            }
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, NotImplementedError) as error:
        raise PotentialError("EQ4321", f"{path}: not a TorchScript file ({error}); {remedy}") from error
    if not sources:
        raise PotentialError("EQ4392", f"{path}: holds no TorchScript program (weights alone?); {remedy}")
    return Foreign(path, content, hashlib.sha256(content).hexdigest(), sources, notes)


def load(foreign: Foreign) -> torch.jit.ScriptModule:
    """The program, on the CPU, in evaluation mode.  This executes code from the file.

    Raises: PotentialError when torch cannot load it
    """
    try:
        module = torch.jit.load(io.BytesIO(foreign.content), map_location="cpu")
        if hasattr(module, "training"):  # absent when frozen
            module.eval()
    except STOPS as error:
        reason = last_line(error)
        raise PotentialError(
            "EQ4323", f"{foreign.path}: torch {torch.__version__} cannot load it ({reason}); save it with this torch"
        ) from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _printable(name: str) -> str:
    """A member's name that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)
