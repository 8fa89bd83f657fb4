"""The folder that a task fills with results: refused if it holds anything else, one writer at a time, files whole."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eqff import __version__
from eqff.errors import ConfigError
from eqff.files import new_file
from eqff.locks import locked, made


@contextlib.contextmanager
def results_folder(folder: Path, force: bool) -> Iterator[None]:
    """Make the folder, and keep other writers away from it within this context.

    Raises: ConfigError EQ1251 if it holds files and is not to be overwritten, EQ1254 a file in its way; ResourceError
            EQ6131 while another process writes there
    """
    check_folder(folder, force)
    with made(folder), locked(folder):
        check_folder(folder, force)  # again: another process may have written there meanwhile
        yield


def check_folder(folder: Path, force: bool) -> None:
    """Raises: ConfigError EQ1251, EQ1254"""
    nearest = next(place for place in (folder, *folder.parents, Path()) if place.exists())
    others = [path for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []
    if not nearest.is_dir():
        raise ConfigError("EQ1254", f"output={folder}: {nearest} is a file; name a folder")
    if others and not force:
        raise ConfigError("EQ1251", f"{folder} exists; choose another folder, or overwrite its results with --force")


def write_texts(folder: Path, contents: Iterable[tuple[str, str]], calculator: Any) -> list[Path]:
    """Write texts into files of the folder, each whole, and provenance.json, which says what computed them.

    Args:    contents: names, which may have folders, and texts; calculator: of ASE
    Returns: paths
    """
    paths = []
    for name, text in [*contents, ("provenance.json", json.dumps(provenance(calculator), indent=1) + "\n")]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def provenance(calculator: Any) -> dict[str, str]:
    """Which calculator, and with eqff's which potential, program and additions, e.g. dispersion."""
    found = {"eqff": __version__, "calculator": type(calculator).__name__}
    potential = getattr(calculator, "potential", None)
    if potential is not None:
        header = potential.header
        found |= {"potential": str(header.get("name", "")), "level_of_theory": str(header.get("level_of_theory", ""))}
        found |= {"program": str(calculator.program), "dtype": str(potential.dtype).removeprefix("torch.")}
    return found
