"""Folders are the registry: a model, format, check, engine, importer or verb exists because its file does.

eqff/models/nequip.py           the model "nequip"
eqff/data/checks/stress.py      the check "stress"
eqff/cli/import_.py             the verb "import"; its name is a word of Python
eqff/cli/data/_reading.py       no verb: the name begins with an underscore
entry point `eqff.models`       another model, of an installed package; its name is that of the entry point
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
    """Names of all members of a folder and of the entry points `eqff.<family>`, sorted.

    Args: family: folder below eqff, e.g. "models" or "data.formats"
    """
    return sorted(set(_folder(family)) | _installed(family).names)


def load(family: str, name: str) -> ModuleType:
    """Import a member; a file of the folder precedes an entry point of the same name.

    Args:   family: folder below eqff, e.g. "models"; name: e.g. "nequip"
    Raises: ConfigError EQ1002 naming the members that exist
    """
    files = _folder(family)
    if name in files:
        return importlib.import_module(f"eqff.{family}.{files[name]}")
    for entry in _installed(family).select(name=name):
        return entry.load()
    raise ConfigError("EQ1002", f"{family} has no {name!r}; choose from {', '.join(names(family))}")


def _folder(family: str) -> dict[str, str]:
    """Name -> module of every file in a folder."""
    modules = pkgutil.iter_modules(importlib.import_module(f"eqff.{family}").__path__)
    return {module.name.rstrip("_"): module.name for module in modules if not module.name.startswith("_")}


def _installed(family: str) -> "EntryPoints":
    """Entry points of other packages that add members."""
    return _entry_points().select(group=f"eqff.{family}")


@cache
def _entry_points() -> Any:  # EntryPoints, up to Python 3.11 SelectableGroups
    """Entry points of all installed packages: there may be hundreds, so a process looks for them once."""
    from importlib.metadata import entry_points

    return entry_points()
