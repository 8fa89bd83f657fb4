"""Names of potentials -> files: `<directory>/<name>/<name>.eqff.pt`.

Text with a separator or the suffix is a path; any other text is a name, and a file of this name in the working
directory is not looked at: whoever can put a file there must not decide which program runs.
"""

import difflib
import os
import re
from pathlib import Path

from eqff.cache import user_folder
from eqff.errors import PotentialError

SUFFIX = ".eqff.pt"
PACKAGE = Path(__file__).resolve().parents[1]


def directories() -> list[Path]:
    """Where named potentials are looked for, first match wins.

    $EQFF_POTENTIALS, this package, the user's own potentials, a checkout of the package.
    """
    listed = [Path(entry) for entry in os.environ.get("EQFF_POTENTIALS", "").split(os.pathsep) if entry]
    checkout = PACKAGE.parent
    return [
        *listed,
        PACKAGE / "_potentials",
        *user_potentials(),
        *([checkout / "potentials"] if (checkout / "pyproject.toml").is_file() else []),
    ]


def user_potentials() -> list[Path]:
    """The user's own potentials: `eqff/potentials` in $XDG_DATA_HOME or ~/.local/share; [] without a home directory.

    Raises: ConfigError EQ1501 for a relative XDG_DATA_HOME
    """
    try:
        return [user_folder("XDG_DATA_HOME", ".local/share") / "eqff" / "potentials"]
    except RuntimeError:
        return []


def available() -> list[str]:
    """Names of all potentials that `find` knows."""
    files = (file for directory in directories() for file in directory.glob(f"*/*{SUFFIX}"))
    return sorted({file.parent.name for file in files if file.name == file.parent.name + SUFFIX})


def find(name_or_path: str | Path) -> Path:
    """File of a potential.

    Args:    name_or_path: a Path; text with a separator or the suffix is a path, too; other text is a name, looked for
             in $EQFF_POTENTIALS (directories separated as in PATH), the potentials shipped with eqff, the user's own
             ($XDG_DATA_HOME/eqff/potentials), `potentials/` of a checkout
    Raises:  PotentialError EQ4101 if there is no such file, EQ4102 listing the names that exist, EQ4125 otherwise
    """
    if not isinstance(name_or_path, str | Path):
        raise PotentialError("EQ4125", f"potential={name_or_path!r}: expected text or a Path; give a name or a file")
    name, path = str(name_or_path), Path(name_or_path)
    if (isinstance(name_or_path, Path) or is_path(name)) and _is_file(path):
        return path
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name) or name.endswith(".pt"):
        raise PotentialError(
            "EQ4101", f"path={name!r}: no such file; give a *{SUFFIX} file or {_known(name)}{_here(name)}"
        )
    for directory in directories():
        candidate = directory / name / (name + SUFFIX)
        if candidate.is_file():
            return candidate
    raise PotentialError(
        "EQ4102",
        f"potential={name!r}: no known name; give a file or {_known(name)}{_here(name)}; "
        "`eqff get` lists potentials that can be fetched",
    )


def is_path(text: str) -> bool:
    """Whether text means a file, and not the name of a potential."""
    return text.endswith(SUFFIX) or any(separator in text for separator in (os.sep, os.altsep) if separator)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _here(name: str) -> str:
    """A hint where the working directory has a file that a bare name does not reach."""
    if not name or is_path(name):
        return ""
    found = [file for file in (name, name + SUFFIX) if _is_file(Path(file))]
    return f"; for the file in this directory write ./{found[0]}" if found else ""


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
