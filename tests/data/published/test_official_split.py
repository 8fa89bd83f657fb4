"""Parts of rMD17's split 01: known of seven molecules, and only whole."""

import numpy as np
import pytest

from eqff.data.published.official_split import FINGERPRINTS, cut, fingerprints, is_part, parts_of, whole_of
from eqff.data.reading.npz import npz_names, read_npz
from eqff.errors import DataError

MOLECULES = ("aspirin", "benzene", "ethanol", "malonaldehyde", "naphthalene", "toluene", "uracil")


def test_a_thousand_frames_of_each_part_are_known():
    names = [f"{molecule}_{part}" for molecule in MOLECULES for part in ("train", "test")]
    assert sorted(npz_names(FINGERPRINTS)) == sorted(names)
    known = read_npz(FINGERPRINTS, names)
    assert all(array.dtype == np.uint64 and array.shape == (1000,) for array in known.values())
    assert len(np.unique(np.concatenate(list(known.values())))) == 1000 * len(names)  # no frame twice


def test_names():
    for molecule in MOLECULES:
        assert [whole_of(part) for part in parts_of(f"rmd17_{molecule}.npz")] == [f"rmd17_{molecule}.npz"] * 2
    for other in ("rmd17_ethanol.npz", "rmd17_ethanol_train_02.npz", "rmd17_azobenzene_train_01.npz", "train_01.npz"):
        assert whole_of(other) is None
        assert parts_of(other) == (
            [f"rmd17_ethanol_{part}_01.npz" for part in ("train", "test")] if "l.npz" in other else []
        )


def test_a_part_has_its_frames_in_their_order(rmd17_ethanol, tmp_path):
    whole = read_npz(rmd17_ethanol, npz_names(rmd17_ethanol))
    path = cut(rmd17_ethanol, "rmd17_ethanol_train_01.npz", tmp_path)
    part = read_npz(path, npz_names(path))
    assert set(part) == set(whole)
    assert part["nuclear_charges"].tolist() == whole["nuclear_charges"].tolist()
    for name in set(whole) - {"nuclear_charges"}:
        assert np.array_equal(part[name], whole[name][[7, 2, 11]])
    assert is_part(path)
    with pytest.raises(DataError, match="EQ3070"):
        cut(rmd17_ethanol, path.name, tmp_path)
    np.savez(path, **part | {name: part[name][::-1] for name in ("coords", "energies", "forces")})
    assert not is_part(path)
    np.savez(path, **part | {"nuclear_charges": part["nuclear_charges"][::-1]})
    assert not is_part(path)
    assert not is_part(path.rename(tmp_path / "other.npz"))


def test_a_file_without_these_frames_is_refused(rmd17_ethanol, tmp_path):
    arrays = read_npz(rmd17_ethanol, npz_names(rmd17_ethanol))
    arrays["forces"] = arrays["forces"] * np.where(np.arange(20) == 5, 1.0 + 1e-15, 1.0)[:, None, None]
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(DataError, match=r"EQ3370.*1 of 2 frames of rmd17_ethanol_test_01\.npz"):
        cut(tmp_path / "changed.npz", "rmd17_ethanol_test_01.npz", tmp_path)
    with pytest.raises(DataError, match="EQ3371"):
        cut(rmd17_ethanol, "rmd17_ethanol_test_02.npz", tmp_path)
    assert len(fingerprints(arrays, "changed.npz")) == 20


@pytest.mark.parametrize(
    ("id", "wrong"),
    [
        ("EQ3372", {"energies": np.zeros(19)}),
        ("EQ3372", {"energies": np.array(1.0)}),
        ("EQ3948", {"energies": np.array(["a"] * 20)}),
        ("EQ3372", {"coords": np.zeros((20, 8, 3))}),
        ("EQ3372", {"nuclear_charges": np.zeros((20, 9))}),
    ],
    ids=["fewer", "one number", "text", "fewer atoms", "of each frame"],
)
def test_other_arrays_are_refused(id, wrong, rmd17_ethanol, tmp_path):
    path = tmp_path / "rmd17_ethanol_train_01.npz"
    np.savez(path, **read_npz(rmd17_ethanol, npz_names(rmd17_ethanol)) | wrong)
    with pytest.raises(DataError, match=rf"{id}.*rmd17_ethanol_train_01\.npz"):
        is_part(path)
