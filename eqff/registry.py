"""Folders are the registry: a model, format, verb exists because its file does.  Outsiders add entry points.

The file of a name that is a word of Python ends in an underscore: `import_.py` is the verb `import`.
"""

import importlib
import keyword
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from eqff.errors import ConfigError


def names(family: str) -> list[str]:
    """Names of all members of a folder, e.g. names("models") -> ["nequip", ...], entry points `eqff.<family>` too."""
    package = importlib.import_module(f"eqff.{family}")
    found = {m.name.rstrip("_") for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    found |= {e.name for e in entry_points(group=f"eqff.{family}")}
    return sorted(found)


def load(family: str, name: str) -> ModuleType:
    """Import one member by name.

    Raises: ConfigError naming the members that exist
    """
    for entry in entry_points(group=f"eqff.{family}"):
        if entry.name == name:
            return entry.load()
    known = names(family)
    if name not in known:
        raise ConfigError("EQ1002", f"{family} has no {name!r}; choose from {', '.join(known)}")
    return importlib.import_module(f"eqff.{family}.{name}{'_' if keyword.iskeyword(name) else ''}")
