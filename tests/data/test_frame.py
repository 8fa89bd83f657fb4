from pathlib import Path

import numpy as np
import pytest

from eqff.data.frame import Frame, census, check_frame, hill_formula, label_weights
from eqff.data.reading.read import read_frames
from eqff.data.reading.write import write_frames
from eqff.errors import DataError, EqffError


@pytest.mark.parametrize(
    ("numbers", "formula"),
    [([1, 8, 1], "H2O"), ([8, 6, 6, *[1] * 6], "C2H6O"), ([17, 11], "ClNa"), ([1, 6, 7], "CHN"), ([14] * 64, "Si64")],
)
def test_hill_formula(numbers, formula):
    assert hill_formula(np.array(numbers)) == formula


def test_census_counts_labels_and_compositions(mixed_frames):
    found = census([*mixed_frames, mixed_frames[0]])
    assert (found.n_frames, found.n_atoms, found.periodic) == (5, 13, 2)
    assert found.labels == {"energy": 3, "forces": 2, "stress": 1}
    assert found.compositions == {"H2O": 2, "CH2O": 1, "H": 1, "H2": 1}
    assert "H2O (2)" in str(found)


def test_census_text_stays_short_with_many_compositions():
    frames = [Frame(atomic_numbers=np.array([z]), positions=np.zeros((1, 3))) for z in range(1, 11)]
    assert "and 4 more" in str(census(frames))


@pytest.mark.parametrize(
    ("change", "id", "text"),
    [
        ({"positions": np.zeros((3, 3))}, "EQ2", r"shape"),
        ({"positions": np.array([[0, 0, 0], [0, np.nan, 0]])}, "EQ2103", r"atom 1"),
        ({"forces": np.zeros((2, 2))}, "EQ3001", r"forces has shape \(2, 2\).*expected numbers of shape \(2, 3\)"),
        ({"stress": np.zeros((3, 3))}, "EQ3001", "stress has shape"),
        ({"energy": np.array([1.0])}, "EQ3001", "energy has shape"),
        ({"energy": "low"}, "EQ3001", "energy has shape .* and dtype <U3"),
        ({"energy": float("nan")}, "EQ3002", "energy is nan"),
        ({"forces": np.array([[0, 0, 0], [0, np.inf, 0.0]])}, "EQ3002", r"forces: atom 1 is \[0.0, inf, 0.0\]"),
        ({"stress": np.array([0, 0, 0, np.nan, 0, 0])}, "EQ3002", "stress is"),
        ({"cell": np.zeros((3, 3)), "pbc": np.array([True, True, True])}, "EQ2", "cell"),
        ({"atomic_numbers": np.array([1, 0])}, "EQ2107", "atom 1 has Z=0"),
        ({"atomic_numbers": np.zeros(0, dtype=int), "positions": np.zeros((0, 3))}, "EQ2108", "at least one atom"),
    ],
)
def test_check_frame_names_frame_and_atom(change, id, text):
    good = {"atomic_numbers": np.array([1, 1]), "positions": np.array([[0.0, 0, 0], [0.7, 0, 0]])}
    check_frame(Frame(**good), "x.npz: frame 12")
    with pytest.raises(EqffError, match=text) as caught:
        check_frame(Frame(**(good | change)), "x.npz: frame 12")
    assert caught.value.id.startswith(id)
    assert "x.npz: frame 12" in caught.value.message


def test_weights_of_labels_are_products_and_have_the_names_of_mace() -> None:
    assert label_weights({}) == (1.0, 1.0, 1.0)
    stated = {"config_weight": 2.0, "config_energy_weight": 3, "Config_Stress_Weight": "0.5", "weight": 46.07}
    assert label_weights(stated) == (6.0, 2.0, 1.0)
    assert label_weights({"config_weight": 0}) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "heavy", [1.0, 2.0]])
def test_a_weight_that_is_none_is_refused_with_its_frame(weight: object) -> None:
    frame = Frame(atomic_numbers=np.array([1]), positions=np.zeros((1, 3)), info={"config_forces_weight": weight})
    with pytest.raises(DataError, match=r"EQ3881: a\.xyz: frame 3: config_forces_weight="):
        check_frame(frame, "a.xyz: frame 3")
    assert census([frame]).weighted == 1  # counting refuses nothing


@pytest.mark.parametrize("suffix", ["h5", "extxyz"])
def test_weights_and_kind_of_a_frame_survive_conversion(tmp_path: Path, suffix: str) -> None:
    header = "Properties=species:S:1:pos:R:3 energy=1.0 config_type=bulk config_weight=2.0 config_stress_weight=0"
    (tmp_path / "a.xyz").write_text(f"1\n{header}\nCu 0 0 0\n1\nenergy=2.0\nCu 0 0 0\n")
    write_frames(tmp_path / f"b.{suffix}", read_frames(tmp_path / "a.xyz"))
    first, second = read_frames(tmp_path / f"b.{suffix}")
    assert (first.config_type, first.label_weights) == ("bulk", (2.0, 2.0, 0.0))
    assert (second.config_type, second.label_weights) == (None, (1.0, 1.0, 1.0))
    assert "weights: 1 frames (config_weight), training obeys them" in str(census([first, second]))
