import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqff.data.splits import (
    Split,
    blocked_split,
    check_leaks,
    composition_split,
    load_split,
    random_split,
    split_from_files,
    split_from_indices,
    without,
)
from eqff.errors import ConfigError, DataError


@given(st.integers(1, 300), st.integers(0, 100), st.integers(0, 100), st.integers(0, 2**63))
def test_parts_are_disjoint_and_of_the_asked_size(n_train, n_validation, n_rest, seed):
    n_frames = n_train + n_validation + n_rest
    split = random_split(n_frames, n_train, n_validation, seed=seed)
    assert (len(split.train), len(split.validation), len(split.test)) == (n_train, n_validation, n_rest)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(n_frames))


def test_seed_decides():
    assert random_split(100, 50, 10, seed=1) == random_split(100, 50, 10, seed=1)
    assert random_split(100, 50, 10, seed=1) != random_split(100, 50, 10, seed=2)
    assert len(random_split(100, 50, 10, 5, seed=1).test) == 5


def test_the_drawing_is_numpys_pcg64():
    order = np.random.Generator(np.random.PCG64(7)).permutation(20)
    split = random_split(20, 12, 5, seed=7)
    assert split.train.tolist() == order[:12].tolist()
    assert split.validation.tolist() == order[12:17].tolist()


@pytest.mark.parametrize("counts", [(0, 1, 1), (11, 0, None), (5, 6, None), (5, 3, 3), (5, -1, None), (5, 1, -1)])
def test_counts_that_do_not_fit(counts):
    with pytest.raises(ConfigError, match=r"EQ1031.*n_frames=10"):
        random_split(10, *counts)


def test_saved_and_loaded(tmp_path):
    split = random_split(50, 30, 10, seed=3)
    split.save(tmp_path / "split.json")
    again = load_split(tmp_path / "split.json")
    assert again == split
    assert again.seed == 3
    assert again.train.dtype == np.int64
    empty = split_from_indices(5, train=[1, 2])
    empty.save(tmp_path / "empty.json")
    assert load_split(tmp_path / "empty.json") == empty


@pytest.mark.parametrize(
    ("change", "id"),
    [
        ({"train": [1, 2, 5]}, "EQ3054"),
        ({"n_frames": 12}, "EQ3054"),
        ({"format": "other"}, "EQ3055"),
        ({"train": "abc"}, "EQ3052"),
        ({"train": [1.5]}, "EQ3052"),
        ({"train": [[1], [2, 3]]}, "EQ3053"),
        ({"train": [99]}, "EQ3050"),
        ({"n_frames": None}, "EQ3053"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change, id):
    path = tmp_path / "split.json"
    split_from_indices(10, train=[1, 2, 3], validation=[4]).save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=id):
        load_split(path)


def test_files_that_are_no_split(tmp_path):
    for content in ("", "[]", "{}", '"text"', "\x00"):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match="EQ3053"):
            load_split(tmp_path / "a.json")
    with pytest.raises(DataError, match="EQ3024"):
        load_split(tmp_path / "nowhere.json")


def test_overlap_and_range():
    with pytest.raises(DataError, match=r"EQ3051.*frame 3 is in train and again in test"):
        split_from_indices(10, train=[1, 3], test=[3])
    with pytest.raises(DataError, match=r"EQ3051.*train and again in train"):
        split_from_indices(10, train=[1, 1])
    with pytest.raises(DataError, match=r"EQ3050.*index 10"):
        split_from_indices(10, train=[10])
    with pytest.raises(DataError, match=r"EQ3050.*index -1"):
        split_from_indices(10, train=[-1])
    with pytest.raises(DataError, match="EQ3052"):
        Split(np.array([0.5]), np.zeros(0), np.zeros(0), 10)


def test_index_files(tmp_path):
    (tmp_path / "train.csv").write_text("4\n2\n7\n")
    (tmp_path / "test.csv").write_text("0,1\n")
    split = split_from_files(8, train=tmp_path / "train.csv", test=tmp_path / "test.csv")
    assert split.train.tolist() == [4, 2, 7]
    assert split.test.tolist() == [0, 1]
    assert len(split.validation) == 0
    (tmp_path / "bad.csv").write_text("4\n2.5\n")
    with pytest.raises(DataError, match=r"EQ3949.*'2.5' is not an integer"):
        split_from_files(8, train=tmp_path / "bad.csv")
    with pytest.raises(DataError, match="EQ3056"):
        split_from_files(8, train=tmp_path / "nowhere.csv")


def test_hash_knows_order_parts_and_size():
    splits = [
        split_from_indices(10, train=[1, 2], validation=[3]),
        split_from_indices(10, train=[2, 1], validation=[3]),
        split_from_indices(10, train=[1, 2, 3]),
        split_from_indices(10, train=[1, 2], test=[3]),
        split_from_indices(11, train=[1, 2], validation=[3]),
    ]
    assert len({split.sha256 for split in splits}) == 5
    assert len({*splits, split_from_indices(10, train=[1, 2], validation=[3])}) == 5


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_blocks_in_time_keep_their_distance(n_train, n_validation, n_test, gap):
    n_frames = n_train + n_validation + n_test + 2 * gap + 3
    split = blocked_split(n_frames, n_train, n_validation, n_test, gap=gap)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [n_train, n_validation, n_test]
    filled = [part for part in parts if len(part)]
    assert all((np.diff(part) == 1).all() for part in filled)
    for one, other in pairwise(filled):
        assert other[0] - one[-1] == gap + 1
    assert blocked_split(20, 10, 3, gap=2).test.tolist() == [17, 18, 19]
    with pytest.raises(ConfigError, match="EQ1031"):
        blocked_split(10, 8, 1, 1, gap=1)
    with pytest.raises(ConfigError, match="EQ1941"):
        blocked_split(10, 8, 1, gap=-1)


@given(st.lists(st.integers(1, 30), min_size=3, max_size=12), st.integers(0, 1000))
def test_compositions_stay_together(sizes, seed):
    compositions = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(compositions)
    n_frames = len(compositions)
    n_train = max(1, n_frames // 2)
    split = composition_split(compositions, n_train, n_frames // 4, seed=seed)
    parts = [set(compositions[part].tolist()) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert sum(len(part) for part in parts) == len(sizes)
    asked = [n_train, n_frames // 4, n_frames - n_train - n_frames // 4]
    assert all(parts[k] for k in range(3) if asked[k])  # no part that was asked for stays empty
    assert split == composition_split(compositions, n_train, n_frames // 4, seed=seed)


def test_equal_compositions_are_divided_as_asked():
    split = composition_split(np.repeat(np.arange(20), 5), 80, 10, seed=1)
    assert (len(split.train), len(split.validation), len(split.test)) == (80, 10, 10)
    with pytest.raises(DataError, match=r"EQ3322.*2 compositions for 3 parts"):
        composition_split(np.repeat(np.arange(2), 5), 6, 2)


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_both_formats_keep_everything(tmp_path, name):
    split = replace(random_split(50, 30, 10, seed=3), origin={"method": "random", "source": "a.npz"})
    split.save(tmp_path / name)
    again = load_split(tmp_path / name)
    assert again == split
    assert again.seed == 3
    assert again.origin == {"method": "random", "source": "a.npz"}
    with pytest.raises(ConfigError, match="EQ1924"):
        split.save(tmp_path / "a.txt")


def test_a_changed_npz_is_refused(tmp_path):
    random_split(50, 30, 10, seed=3).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        content = dict(arrays)
    content["train_idx"][0], content["train_idx"][1] = content["train_idx"][1], content["train_idx"][0]
    np.savez(tmp_path / "b.npz", **content)
    with pytest.raises(DataError, match="EQ3054"):
        load_split(tmp_path / "b.npz")


def test_split_of_schnetpack(tmp_path):
    np.savez(tmp_path / "split.npz", train_idx=[4, 2], val_idx=[0], test_idx=[7, 1])
    split = load_split(tmp_path / "split.npz")
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([4, 2], [0], [7, 1])
    assert split.n_frames == 8


def test_csv_files_are_those_of_rmd17(tmp_path):
    split = split_from_indices(9, train=[4, 2], test=[7])
    written = split.save_csv(tmp_path)
    assert [path.name for path in written] == ["train.csv", "test.csv"]
    assert split_from_files(9, train=written[0], test=written[1]) == split


def test_the_same_structure_in_two_parts_is_found():
    split = split_from_indices(5, train=[0, 1], validation=[2], test=[4])
    check_leaks(split, [b"a", b"a", b"b", b"a", b"c"])  # twice in one part, and in a frame that is in none
    with pytest.raises(DataError, match=r"EQ3323.*frame 1 of train and frame 4 of test"):
        check_leaks(split, [b"a", b"c", b"b", b"a", b"c"])
    assert without(split, np.array([1, 2])) == split_from_indices(5, train=[0], test=[4])
