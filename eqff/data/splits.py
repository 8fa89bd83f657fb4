"""Which frames train, which validate, which test: seeded, saved, and identified by a hash."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqff.errors import ConfigError, DataError

PARTS = ("train", "validation", "test")
FORMAT = "eqff-split-1"


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of three disjoint parts of a data set.

    Raises: DataError EQ3050 index out of range, EQ3051 an index twice or in two parts, EQ3052 not integers
    """

    train: np.ndarray  # int64
    validation: np.ndarray
    test: np.ndarray
    n_frames: int  # of the data set that is split
    seed: int | None = None  # None: not drawn at random

    def __post_init__(self) -> None:
        owner: dict[int, str] = {}
        for part in PARTS:
            indices = np.asarray(getattr(self, part))
            if indices.size and indices.dtype.kind not in "iu":
                raise DataError("EQ3052", f"split: {part} holds {indices.dtype}, expected integers")
            indices = indices.reshape(-1).astype(np.int64)
            object.__setattr__(self, part, indices)
            for index in indices.tolist():
                if not 0 <= index < self.n_frames:
                    raise DataError("EQ3050", f"split: {part} has index {index}, but there are {self.n_frames} frames")
                if index in owner:
                    raise DataError(
                        "EQ3051",
                        f"split: frame {index} is in {owner[index]} and again in {part}; parts must not overlap",
                    )
                owner[index] = part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def sha256(self) -> str:
        """Identity of the split: number of frames and all indices in their order; the seed does not count."""
        digest = hashlib.sha256(f"{FORMAT} {self.n_frames}".encode())
        for part in PARTS:
            indices = getattr(self, part)
            digest.update(f"{part} {len(indices)}".encode())
            digest.update(indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        content = {"format": FORMAT, "sha256": self.sha256, "n_frames": self.n_frames, "seed": self.seed}
        parts = {part: getattr(self, part).tolist() for part in PARTS}
        Path(path).write_text(json.dumps(content | parts) + "\n", encoding="utf-8")


def random_split(n_frames: int, n_train: int, n_validation: int, n_test: int | None = None, seed: int = 0) -> Split:
    """Draw disjoint parts with numpy's PCG64; the same arguments give the same split on every machine.

    Args:   n_test: None takes all that is left
    Raises: ConfigError EQ1031 if the counts do not fit
    """
    rest = n_frames - n_train - n_validation
    n_test = max(rest, 0) if n_test is None else n_test
    counts = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test}
    if min(counts.values()) < 0 or n_train < 1 or n_train + n_validation + n_test > n_frames:
        text = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ConfigError("EQ1031", f"{text}: they must be >= 0, n_train >= 1, and sum to at most n_frames={n_frames}")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n_frames).astype(np.int64)
    ends = np.cumsum([n_train, n_validation, n_test])
    return Split(order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]], n_frames, seed)


def load_split(path: str | Path) -> Split:
    """A split written by `Split.save`, checked against its own hash.

    Raises: DataError EQ3053 unreadable, EQ3055 of another format, EQ3054 changed since it was saved
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError("EQ3055", f"{path}: format={content['format']!r}, this version reads {FORMAT!r}")
        train, validation, test = (_indices(content[part]) for part in PARTS)
        split = Split(train, validation, test, int(content["n_frames"]), content["seed"])
        stated = content["sha256"]
    except FileNotFoundError:
        raise DataError("EQ3024", f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("EQ3053", f"{path}: not a split file ({error!r}); make it again with random_split") from None
    if split.sha256 != stated:
        raise DataError("EQ3054", f"{path}: the indices do not match the stated hash; the file was changed")
    return split


def split_from_files(
    n_frames: int,
    *,
    train: str | Path,
    validation: str | Path | None = None,
    test: str | Path | None = None,
) -> Split:
    """A split given as index files, one integer a line (index_train_01.csv of rMD17), counted from 0."""
    parts = [_indices([]) if path is None else _read_indices(path) for path in (train, validation, test)]
    return Split(parts[0], parts[1], parts[2], n_frames)


def split_from_indices(
    n_frames: int, *, train: Sequence[int], validation: Sequence[int] = (), test: Sequence[int] = ()
) -> Split:
    """A split given as sequences of row numbers."""
    return Split(_indices(train), _indices(validation), _indices(test), n_frames)


def _indices(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtype=None if len(values) else np.int64)


def _read_indices(path: str | Path) -> np.ndarray:
    try:
        words = Path(path).read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("EQ3056", f"{path}: cannot be read ({error})") from None
    indices = []
    for word in words:
        try:
            indices.append(int(word))
        except ValueError:
            raise DataError("EQ3052", f"{path}: {word!r} is not an integer; one row number a line, from 0") from None
    return np.array(indices, dtype=np.int64)
