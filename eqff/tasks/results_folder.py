"""The folder that a task fills with results: refused if it holds anything else, one writer at a time, files whole."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

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


def write_texts(folder: Path, contents: Iterable[tuple[str, str]]) -> list[Path]:
    """Write texts into files of the folder, each whole.

    Args:    contents: names, which may have folders, and texts
    Returns: paths
    """
    paths = []
    for name, text in contents:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
