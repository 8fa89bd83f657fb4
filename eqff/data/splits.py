"""Division of frames into training, validation and test frames: drawn or given, saved, identified by a hash."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eqff.data.reading.npz import as_text, read_npz
from eqff.errors import ConfigError, DataError
from eqff.files import new_file

PARTS = ("train", "validation", "test")
FORMAT = "eqff-split-1"
NPZ_NAMES = {"train": "train_idx", "validation": "val_idx", "test": "test_idx"}  # SchNetPack's split.npz


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
    origin: Mapping[str, str] = field(default_factory=dict)  # how it was made and of what; not part of the hash

    def __post_init__(self) -> None:
        owner = np.full(self.n_frames, -1, dtype=np.int8)
        for number, part in enumerate(PARTS):
            indices = np.asarray(getattr(self, part))
            if indices.size and indices.dtype.kind not in "iu":
                raise DataError(
                    "EQ3052", f"split: {part} holds {indices.dtype}, expected integers; convert it with astype(int)"
                )
            indices = indices.reshape(-1).astype(np.int64)
            object.__setattr__(self, part, indices)
            outside = indices[(indices < 0) | (indices >= self.n_frames)]
            if len(outside):
                raise DataError(
                    "EQ3050",
                    f"split: {part} has index {outside[0]}, but there are {self.n_frames} frames; "
                    "use the split of this file",
                )
            distinct, first = np.unique(indices, return_index=True)
            taken = distinct[owner[distinct] >= 0]
            if len(taken):
                self._refuse(int(taken[0]), PARTS[owner[taken[0]]], part)
            if len(distinct) < len(indices):
                self._refuse(int(np.delete(indices, first)[0]), part, part)
            owner[distinct] = number

    def _refuse(self, index: int, first: str, second: str) -> None:
        raise DataError("EQ3051", f"split: frame {index} is in {first} and again in {second}; leave it out of one")

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
        """Write as JSON, or in the layout of SchNetPack's split.npz (train_idx, val_idx, test_idx), by suffix.

        Raises: ConfigError EQ1924 for another suffix
        """
        path = Path(path)
        about = {"format": FORMAT, "sha256": self.sha256, "n_frames": self.n_frames, "seed": self.seed}
        if path.suffix == ".json":
            parts = {part: getattr(self, part).tolist() for part in PARTS}
            origin = {"origin": dict(self.origin)} if self.origin else {}
            path.write_text(json.dumps(about | origin | parts) + "\n", encoding="utf-8")
        elif path.suffix == ".npz":
            arrays = {name: getattr(self, part) for part, name in NPZ_NAMES.items()}
            np.savez(path, eqff=np.array(json.dumps(about | {"origin": dict(self.origin)})), **arrays)
        else:
            raise ConfigError("EQ1924", f"{path}: a split is written as .json or .npz; choose such a name")

    def save_csv(self, folder: str | Path) -> list[Path]:
        """Index files as rMD17 has them, one row number a line: train.csv, validation.csv, test.csv, if not empty."""
        written = []
        for part in PARTS:
            indices = getattr(self, part)
            if len(indices):
                written.append(Path(folder) / f"{part}.csv")
                with new_file(written[-1], force=True) as temporary:
                    temporary.write_text("".join(f"{index}\n" for index in indices.tolist()), encoding="utf-8")
        return written


def random_split(n_frames: int, n_train: int, n_validation: int, n_test: int | None = None, seed: int = 0) -> Split:
    """Draw disjoint parts with numpy's PCG64; the same arguments give the same split on every machine.

    Args:   n_test: None takes all that is left
    Raises: ConfigError EQ1031 if the counts do not fit
    """
    rest = n_frames - n_train - n_validation
    n_test = max(rest, 0) if n_test is None else n_test
    _check_counts(n_frames, n_train, n_validation, n_test)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n_frames).astype(np.int64)
    ends = np.cumsum([n_train, n_validation, n_test])
    return Split(order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]], n_frames, seed)


def blocked_split(n_frames: int, n_train: int, n_validation: int, n_test: int | None = None, gap: int = 0) -> Split:
    """Parts that are blocks in time: train, then validation, then test, with `gap` frames left out between them.

    Successive frames of a trajectory are similar, so that a random split tests little; here the frames of two parts
    are at least `gap` + 1 frames apart.

    Args:   n_test: None takes all that is left
    Raises: ConfigError EQ1031 if the counts do not fit, EQ1941 if gap is negative
    """
    if gap < 0:
        raise ConfigError("EQ1941", f"gap={gap} frames: must be >= 0; give 0 for no gap")
    n_gaps = gap * ((n_validation > 0) + (n_test is None or n_test > 0))
    rest = n_frames - n_train - n_validation - n_gaps
    n_test = max(rest, 0) if n_test is None else n_test
    _check_counts(n_frames - n_gaps, n_train, n_validation, n_test)
    start, parts = 0, []
    for count in (n_train, n_validation, n_test):
        parts.append(np.arange(start, start + count))
        start += count + (gap if count else 0)
    return Split(parts[0], parts[1], parts[2], n_frames)


def composition_split(
    compositions: np.ndarray, n_train: int, n_validation: int, n_test: int | None = None, seed: int = 0
) -> Split:
    """Parts that share no composition, with sizes as close to the requested ones as whole compositions allow.

    The largest compositions are assigned first, each to the part that lacks most frames.

    Args:   compositions [n_frames] a number for each composition; n_test: None takes all that is left
    Raises: ConfigError EQ1031 if the counts do not fit; DataError EQ3322 with fewer compositions than parts
    """
    n_frames = len(compositions)
    n_test = max(n_frames - n_train - n_validation, 0) if n_test is None else n_test
    _check_counts(n_frames, n_train, n_validation, n_test)
    random = np.random.Generator(np.random.PCG64(seed))
    distinct, member, sizes = np.unique(compositions, return_inverse=True, return_counts=True)
    lacking = np.array([n_train, n_validation, n_test], dtype=np.float64)
    n_parts = int((lacking > 0).sum())
    if len(distinct) < n_parts:
        raise DataError(
            "EQ3322", f"split by composition: {len(distinct)} compositions for {n_parts} parts; split by blocks instead"
        )
    part_of, empty = np.empty(len(distinct), dtype=np.int64), set(np.flatnonzero(lacking > 0).tolist())
    order = random.permutation(len(distinct))
    order = order[np.argsort(-sizes[order], kind="stable")]
    for n_left, k in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        candidates = empty if n_left <= len(empty) else range(3)  # every requested part gets at least one
        part = max(candidates, key=lambda p: lacking[p])
        part_of[k] = part
        lacking[part] -= sizes[k]
        empty.discard(part)
    parts = [random.permutation(np.flatnonzero(part_of[member.reshape(-1)] == p)) for p in range(3)]
    return Split(parts[0], parts[1], parts[2], n_frames, seed)


def without(split: Split, frames: np.ndarray) -> Split:
    """The split without these frames."""
    parts = [part[~np.isin(part, frames)] for part in (split.train, split.validation, split.test)]
    return Split(parts[0], parts[1], parts[2], split.n_frames, split.seed, split.origin)


def always_training(split: Split, frames: np.ndarray) -> Split:
    """The split with these frames in its training part and in no other."""
    rest = without(split, frames)
    train = np.concatenate([rest.train, frames]).astype(np.int64)
    return Split(train, rest.validation, rest.test, split.n_frames, split.seed, split.origin)


def extended(split: Split, n_more: int) -> Split:
    """The split of a data set with `n_more` further frames, which train."""
    more = np.arange(split.n_frames, split.n_frames + n_more)
    train = np.concatenate([split.train, more])
    return Split(train, split.validation, split.test, split.n_frames + n_more, split.seed, split.origin)


def check_leaks(split: Split, identities: Sequence[bytes]) -> None:
    """Check that no frame is in two parts under two numbers.

    Args:   identities [n_frames] equal for frames that are the same
    Raises: DataError EQ3323 naming two such frames
    """
    owner: dict[bytes, tuple[str, int]] = {}
    for part in PARTS:
        for index in getattr(split, part).tolist():
            other, first = owner.setdefault(identities[index], (part, index))
            if other != part:
                raise DataError(
                    "EQ3323",
                    f"split: frame {first} of {other} and frame {index} of {part} are the same structure, so {part} "
                    "would test on training data; leave such frames out (--drop-duplicates)",
                )


def load_split(path: str | Path) -> Split:
    """A split written by `Split.save` (JSON or npz), checked against its own hash; or SchNetPack's split.npz.

    Raises: DataError EQ3053 unreadable, EQ3055 of another format, EQ3054 changed since it was saved
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    try:
        content = _npz_content(path) if zipfile.is_zipfile(path) else json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError(
                "EQ3055",
                f"{path}: format={content['format']!r}, expected {FORMAT!r}; "
                "make the split again with `eqff data split`",
            )
        train, validation, test = (_indices(content[part]) for part in PARTS)
        origin = content.get("origin", {})
        split = Split(train, validation, test, int(content["n_frames"]), content["seed"], origin)
        stated = content["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("EQ3053", f"{path}: not a split file ({error!r}); make it again: eqff data split") from None
    if stated is not None and split.sha256 != stated:
        raise DataError(
            "EQ3054", f"{path}: the indices do not match the stated hash; get the file again, or make a new split"
        )
    return split


def _npz_content(path: Path) -> dict:
    arrays = read_npz(path, list(NPZ_NAMES.values()), ["eqff"])
    parts = {part: arrays[name].reshape(-1) for part, name in NPZ_NAMES.items()}
    about = as_text(arrays.get("eqff"))
    if about is not None:
        return json.loads(about) | parts
    # SchNetPack does not store the number of frames: use the smallest possible
    n_frames = 1 + max((int(part.max()) for part in parts.values() if part.size), default=-1)
    return {"format": FORMAT, "n_frames": n_frames, "seed": None, "sha256": None} | parts


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


def _check_counts(n_frames: int, n_train: int, n_validation: int, n_test: int) -> None:
    counts = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test}
    if min(counts.values()) < 0 or n_train < 1 or sum(counts.values()) > n_frames:
        text = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ConfigError(
            "EQ1031",
            f"{text}: they must be >= 0, n_train >= 1, and sum to at most n_frames={n_frames}; choose smaller parts",
        )


def _indices(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtype=None if len(values) else np.int64)


def _read_indices(path: str | Path) -> np.ndarray:
    try:
        words = Path(path).read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("EQ3056", f"{path}: cannot be read ({error}); write it again with `eqff data split`") from None
    indices = []
    for word in words:
        try:
            indices.append(int(word))
        except ValueError:
            raise DataError(
                "EQ3949", f"{path}: {word!r} is not an integer; write one row number per line, from 0"
            ) from None
    return np.array(indices, dtype=np.int64)
