"""Folders are the registry: a model, format, verb exists because its file does.  Outsiders add entry points.

The file of a name that is a word of Python ends in an underscore: `import_.py` is the verb `import`.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from eqff.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


def names(family: str) -> list[str]:
    """Names of all members of a folder, e.g. names("models") -> ["nequip", ...], entry points `eqff.<family>` too."""
    return sorted(set(_folder(family)) | _outsiders(f"eqff.{family}").names)


def load(family: str, name: str) -> ModuleType:
    """Import one member by name; a file of the folder goes before an entry point of the same name.

    Raises: ConfigError naming the members that exist
    """
    files = _folder(family)
    if name in files:
        return importlib.import_module(f"eqff.{family}.{files[name]}")
    for entry in _outsiders(f"eqff.{family}"):
        if entry.name == name:
            return entry.load()
    raise ConfigError("EQ1002", f"{family} has no {name!r}; choose from {', '.join(names(family))}")


def _folder(family: str) -> dict[str, str]:
    """Name -> module of every file of a folder, and of what was added to the path of its package."""
    found = pkgutil.iter_modules(importlib.import_module(f"eqff.{family}").__path__)
    return {module.name.rstrip("_"): module.name for module in found if not module.name.startswith("_")}


def _outsiders(group: str) -> "EntryPoints":
    return _entry_points().select(group=group)


@cache
def _entry_points() -> Any:  # EntryPoints, up to Python 3.11 SelectableGroups
    """Entry points of all installed packages, of which there may be hundreds: looked through once per process."""
    from importlib.metadata import entry_points

    return entry_points()
