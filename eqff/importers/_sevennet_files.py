"""Checkpoints that come with the package sevenn: where they are, what they were trained on, and their licence."""

import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from eqff.errors import PotentialError
from eqff.importers._contract import Located, Provenance

FOLDER = "sevenn/pretrained_potentials"
MOST = 200_000_000  # bytes of a checkpoint
WHEEL = ".whl:"
PIP = "pip download sevenn==0.13.0 --no-deps"


class Checkpoint(NamedTuple):
    """One file of the package."""

    file: str  # in FOLDER
    sha256: str


CHECKPOINTS = {
    "7net-0": Checkpoint(
        "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    ),
    "7net-0_22May2024": Checkpoint(
        "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
        "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1",
    ),
    "7net-mf-0": Checkpoint(
        "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
        "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd",
    ),
    "7net-l3i5": Checkpoint(
        "SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
    ),
}
SEVENNET = "Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190"
MULTI = "Kim et al., J. Am. Chem. Soc. 147, 1042 (2024), doi:10.1021/jacs.4c14455"
MPTRJ = (
    "MPtrj: relaxation trajectories of the Materials Project (PBE and PBE+U), "
    "Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3"
)
LICENCE = "MIT, Copyright (c) 2024 Yutack Park"
LICENCE_TEXT = """MIT License

Copyright (c) 2024 Yutack Park

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
USE = """Good for inorganic crystals of {n} elements near equilibrium: relaxation of geometry and cell, equations of
state, screening, and as a start for molecular dynamics or fine-tuning.

Compare with a reference calculation first where the training data have little or nothing: isolated molecules and atoms,
molecular liquids, surfaces, defects, high pressure, breaking bonds. Universal potentials tend to be too soft away from
equilibrium, so that phonon frequencies and barriers come out low. Dispersion that the functional lacks, charges and
spins are not part of the model.
Energies are total energies of the reference calculations, not formation energies."""
XPLOR = """The radial envelope (XPLOR) is 1 up to {r_on:g} Å. Energies and forces are continuous, but second derivatives
jump where a pair distance crosses {r_on:g} Å or {r_max:g} Å; that of the envelope by {jump:.1f} Å^-2 at {r_on:g} Å.
Where a shell of neighbours lies near these radii, Hessians, elastic constants and phonons depend on the side, and on
the step of finite differences. The envelope of 7net-l3i5 is twice differentiable. `eqff compile` needs --exact."""


def locate(source: str) -> Located | None:
    """The checkpoint in `WHEEL:NAME`, or with a NAME in an installed sevenn, which is not imported; None for a path.

    NAME: a key of CHECKPOINTS, with `:MODALITY` behind it where there are several.

    Raises: PotentialError for a wheel that cannot be read, an unknown name, or another file than the expected one
    """
    package, mark, rest = source.partition(WHEEL)
    name, _, modality = (rest if mark else source).partition(":")
    if not mark and (name not in CHECKPOINTS or Path(source).exists()):
        return None
    if name not in CHECKPOINTS:
        raise PotentialError(
            "EQ4871", f"name={name!r} is not in the package sevenn; choose from {', '.join(CHECKPOINTS)}"
        )
    member = f"{FOLDER}/{CHECKPOINTS[name].file}"
    content = _of_wheel(Path(package + ".whl"), member) if mark else _of_installation(member, name)
    options = {"modality": modality} if modality else {}
    label = f"{Path(package).name}.whl:{name}" if mark else f"sevenn {metadata.version('sevenn')}: {name}"
    return Located(content, label, CHECKPOINTS[name].sha256, options)


def _of_wheel(wheel: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(member).file_size > MOST:
                raise PotentialError("EQ4872", f"{wheel}: {member} is larger than {MOST} bytes; get it with `{PIP}`")
            return archive.read(member)
    except KeyError as error:
        raise PotentialError("EQ4873", f"{wheel}: contains no {member}; get it with `{PIP}`") from error
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise PotentialError("EQ4874", f"{wheel}: cannot be read as a wheel ({error}); get it with `{PIP}`") from error


def _of_installation(member: str, name: str) -> bytes:
    try:
        path = Path(str(metadata.distribution("sevenn").locate_file(member)))
    except metadata.PackageNotFoundError as error:
        raise PotentialError(
            "EQ4875",
            f"name={name!r}: there is no file of this name, and sevenn is not installed; get the package with `{PIP}` "
            f"and give WHEEL:{name}",
        ) from error
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotentialError(
            "EQ4876", f"{path}: cannot be read ({error.strerror}); get it with `{PIP}` and give WHEEL:{name}"
        ) from error


def provenance(foreign: Mapping[str, Any], sha256: str) -> Provenance | None:
    """What is known about a checkpoint of the package, recognised by its content; None for any other."""
    name = next((name for name, checkpoint in CHECKPOINTS.items() if checkpoint.sha256 == sha256), None)
    if name is None:
        return None
    modality = str(foreign.get("modality") or "")
    theory = {"": "PBE and PBE+U", "PBE": "PBE and PBE+U", "R2SCAN": "r2SCAN"}[modality]
    theory = f"{theory}, settings of the Materials Project"
    data = MPTRJ if not modality else "trajectories of the Materials Project, PBE and r2SCAN together"
    cited = [SEVENNET, MULTI] if modality else [SEVENNET]
    title = f"{name}:{modality}" if modality else name
    envelope, r_max = foreign["cutoff_function"], float(foreign["cutoff"])
    parts = [
        f"# {title}",
        f"Universal potential by the authors of SevenNet, imported from the package sevenn ({CHECKPOINTS[name].file}).",
        f"Level of theory: {theory}. Training data: {data}.",
        USE.format(n=len(foreign["_type_map"])),
    ]
    if envelope["cutoff_function_name"] == "XPLOR":
        r_on = float(envelope["cutoff_on"])
        parts.append(XPLOR.format(r_on=r_on, r_max=r_max, jump=-24.0 * r_on**2 / (r_max**2 - r_on**2) ** 2))
    parts.append("Mirror images may differ in energy: its features have no parity (symmetry SE(3)).")
    parts.append("Please cite:\n\n" + "\n".join(f"- {paper}" for paper in cited))
    parts.append(f"## Licence of the weights\n\n{LICENCE_TEXT}")
    facts = {"level_of_theory": theory, "licence": LICENCE, "citation": "; ".join(cited)}
    return Provenance(facts, data, "\n\n".join(parts) + "\n")
