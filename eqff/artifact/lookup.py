"""Names of potentials -> files: `<directory>/<name>/<name>.eqff.pt`."""

import difflib
import os
import re
from pathlib import Path

from eqff.errors import PotentialError

SUFFIX = ".eqff.pt"
PACKAGE = Path(__file__).resolve().parents[1]


def directories() -> list[Path]:
    """Where named potentials are looked for, first match wins: $EQFF_POTENTIALS, this package, a checkout of it."""
    listed = [Path(entry) for entry in os.environ.get("EQFF_POTENTIALS", "").split(os.pathsep) if entry]
    checkout = PACKAGE.parent
    return [
        *listed,
        PACKAGE / "_potentials",
        *([checkout / "potentials"] if (checkout / "pyproject.toml").is_file() else []),
    ]


def available() -> list[str]:
    """Names of all potentials that `find` knows."""
    files = (file for directory in directories() for file in directory.glob(f"*/*{SUFFIX}"))
    return sorted({file.parent.name for file in files if file.name == file.parent.name + SUFFIX})


def find(name_or_path: str | Path) -> Path:
    """File of a potential.

    Args:    name_or_path: an existing file, or a name: $EQFF_POTENTIALS (directories separated as in PATH), the
             potentials shipped with eqff, then `potentials/` of a checkout are searched
    Raises:  PotentialError EQ4101 if there is no such file, EQ4102 listing the names that exist, EQ4125 otherwise
    """
    if not isinstance(name_or_path, str | Path):
        raise PotentialError("EQ4125", f"potential={name_or_path!r}: expected text or a Path; give a name or a file")
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or name.endswith(".pt"):
        raise PotentialError("EQ4101", f"path={name!r}: no such file; give a *{SUFFIX} file or {_known(name)}")
    for directory in directories():
        candidate = directory / name / (name + SUFFIX)
        if candidate.is_file():
            return candidate
    raise PotentialError("EQ4102", f"potential={name!r}: neither a file nor a known name; give {_known(name)}")


def potential_name(path: str | Path) -> str:
    """What a potential is called: the name of its file, or that of the run folder for best.eqff.pt."""
    path = Path(path)
    name = path.name.removesuffix(SUFFIX)
    return path.resolve().parent.name or name if name == "best" and path.with_name("model.json").is_file() else name


def default_structure(name_or_path: str | Path) -> Path | None:
    """Structure beside a named potential, or the best one of a run, as `structure.xyz`; None if there is none.

    Raises: PotentialError as `find`
    """
    path = find(name_or_path)
    structure = path.with_name("structure.xyz")
    named = path.name == path.parent.name + SUFFIX  # a lone file among others does not own its neighbours
    of_run = path.name == "best" + SUFFIX and path.with_name("model.json").is_file()
    return structure if (named or of_run) and structure.is_file() else None


def _known(name: str) -> str:
    names = available()
    if not names:
        return "a directory with potentials in $EQFF_POTENTIALS (no named potential was found)"
    longer = [known for known in names if name and known.startswith(name)]
    meant = " or ".join(repr(known) for known in longer or difflib.get_close_matches(name, names, n=1))
    return f"one of: {', '.join(names)}" + (f" (did you mean {meant}?)" if meant else "")
