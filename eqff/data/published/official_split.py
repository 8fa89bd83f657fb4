"""The official split 01 of revised MD17, cut out of the published files; its frames are identified by hashes.

The whole set of a molecule is rmd17_MOLECULE.npz, its parts are rmd17_MOLECULE_train_01.npz and ..._test_01.npz, all
in the layout of the publication, kcal/mol and Å.  Parts are in the order of splits/index_*_01.csv.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.reading.npz import npz_names, read_npz
from eqff.errors import DataError
from eqff.files import new_file

FINGERPRINTS = Path(__file__).with_name("rmd17_split_01.npz")  # MOLECULE_train and MOLECULE_test: uint64 [1000]
PARTS = ("train", "test")
IDENTITY = ("nuclear_charges", "coords", "energies", "forces")  # arrays that identify a frame


def whole_of(part: str) -> str | None:
    """Name of the whole set of a part, rmd17_ethanol_train_01.npz -> rmd17_ethanol.npz; None for any other name."""
    match = re.fullmatch(rf"(rmd17_(\w+))_({'|'.join(PARTS)})_01\.npz", part)
    return f"{match[1]}.npz" if match and f"{match[2]}_{match[3]}" in npz_names(FINGERPRINTS) else None


def parts_of(whole: str) -> list[str]:
    """Names of both parts of rmd17_ethanol.npz; empty for a molecule without a known split."""
    stem = whole.removesuffix(".npz")
    return [name for name in (f"{stem}_{part}_01.npz" for part in PARTS) if whole_of(name) == whole]


def data_set(part: str) -> str:
    """Name of a part's data set in the catalogue, rmd17_ethanol_train_01.npz -> rmd17-ethanol."""
    return "-".join(part.split("_")[:2])


def fingerprints(arrays: Mapping[str, np.ndarray], where: str | Path) -> np.ndarray:
    """Hashes of elements, positions, energy and forces of every frame, in the units of the file.

    Args:    arrays: those of IDENTITY, and maybe others; where: their file, for messages
    Returns: [n_frames] uint64
    Raises:  DataError EQ3372 if shapes, EQ3948 if dtypes are not those of rMD17
    """
    charges, coords, energies, forces = (arrays[name] for name in IDENTITY)
    shape = (energies.size, charges.size, 3)
    if energies.ndim != 1 or charges.ndim != 1 or coords.shape != shape or forces.shape != shape:
        shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in IDENTITY)
        raise DataError(
            "EQ3372", f"{where}: {shapes}, expected [n_atoms], [n, n_atoms, 3], [n], [n, n_atoms, 3]; get rMD17 again"
        )
    if any(array.dtype.kind not in "iuf" for array in (charges, coords, energies, forces)):
        raise DataError("EQ3948", f"{where}: {', '.join(IDENTITY)} are not all numbers; get rMD17 again")
    elements = charges.astype("<i8").tobytes()
    parts = [array.astype("<f8").reshape(len(energies), -1) for array in (coords, energies, forces)]
    digests = [hashlib.sha256(elements + row.tobytes()).digest()[:8] for row in np.concatenate(parts, axis=1)]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def is_part(path: Path) -> bool:
    """Whether a file has the frames of the part it is named after, in the same order.

    Raises: DataError as `read_npz` and `fingerprints`
    """
    expected = _fingerprints_of(path.name)
    return expected is not None and np.array_equal(fingerprints(read_npz(path, IDENTITY), path), expected)


def cut(whole: Path, part: str, folder: Path, force: bool = False) -> Path:
    """Write a part of the published file.

    Args:    whole: path of rmd17_MOLECULE.npz; part: name of the file to write; folder: made if missing; force: replace
             an existing file
    Returns: path of the part
    Raises:  DataError EQ3370 if frames of the part are missing, EQ3371 no such part; as `read_npz`, `fingerprints` and
             `new_file`
    """
    expected = _fingerprints_of(part)
    if expected is None:
        raise DataError(
            "EQ3371", f"{part}: not a part of a known split, expected e.g. rmd17_ethanol_train_01.npz; check the name"
        )
    arrays = read_npz(whole, IDENTITY, ("old_indices", "old_energies", "old_forces"))
    row_of = {fingerprint: row for row, fingerprint in enumerate(fingerprints(arrays, whole).tolist())}
    missing = sum(fingerprint not in row_of for fingerprint in expected.tolist())
    if missing:
        raise DataError(
            "EQ3370",
            f"{whole}: {missing} of {len(expected)} frames of {part} are not in it; get the file of revised MD17: "
            f"`eqff data get {data_set(part)} --force`",
        )
    rows = np.array([row_of[fingerprint] for fingerprint in expected.tolist()])
    chosen: dict[str, Any] = {
        name: array if name == "nuclear_charges" else array[rows] for name, array in arrays.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with new_file(folder / part, force=force) as path, open(path, "wb") as file:
        np.savez(file, **chosen)
    return folder / part


def _fingerprints_of(part: str) -> np.ndarray | None:
    whole = whole_of(part)
    name = part.removeprefix("rmd17_").removesuffix("_01.npz")
    return None if whole is None else read_npz(FINGERPRINTS, (name,))[name]
