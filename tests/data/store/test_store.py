import pickle
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.data.store.layout import ARRAYS
from eqff.data.store.store import FRAMES_AT_ONCE, Store, write_store
from eqff.errors import DataError

EARLIER = Path(__file__).parents[1] / "files" / "store_schema_2.h5"
DIGEST = "5ce7b79d8af4453625f0ea5252edb507f9aca34f4740029bb9b6b7f3483808b5"
FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def frames(draw):
    n_atoms = draw(st.integers(1, 5))

    def maybe(shape):
        return draw(st.none() | hnp.arrays(np.float64, shape, elements=FLOATS))

    return Frame(
        atomic_numbers=draw(hnp.arrays(np.int64, n_atoms, elements=st.integers(1, 118))),
        positions=draw(hnp.arrays(np.float64, (n_atoms, 3), elements=st.floats(-100, 100))),
        cell=np.diag([5.0, 6.0, 7.0]),
        pbc=draw(hnp.arrays(bool, 3)),
        energy=draw(st.none() | FLOATS),
        forces=maybe((n_atoms, 3)),
        stress=maybe(6),
        info=draw(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=5), max_size=2)),
    )


@settings(max_examples=25, deadline=None)
@given(written=st.lists(frames(), min_size=1, max_size=4))
def test_round_trip_is_exact(written, same_frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.h5"
    write_store(path, written)
    with Store(path) as store:
        store.verify()
        assert len(store) == len(written)
        for one, other in zip(written, store, strict=True):
            assert same_frame(one, other)
            assert one.info == other.info


def test_access_by_index_and_slice(mixed_frames, tmp_path, same_frame):
    write_store(tmp_path / "a.h5", mixed_frames)
    with Store(tmp_path / "a.h5") as store:
        assert same_frame(store.frame(2), mixed_frames[2])
        assert same_frame(store[-1], mixed_frames[-1])
        assert [len(f.atomic_numbers) for f in store[1:3]] == [4, 1]
        assert [len(f.atomic_numbers) for f in store[::-1]] == [2, 1, 4, 3]
        assert store[2:1] == []
        for index in (4, -5):
            with pytest.raises(IndexError):
                store.frame(index)
        frame = store.frame(1)
    assert frame.forces.shape == (4, 3)  # stays valid
    with pytest.raises(DataError, match="EQ3075"):
        store.frame(0)


def test_frames_stream_from_a_generator_part_by_part(mixed_frames, tmp_path, same_frame):
    n_frames = 2500
    write_store(tmp_path / "a.h5", (mixed_frames[i % 4] for i in range(n_frames)))
    with Store(tmp_path / "a.h5") as store:
        assert len(store) == n_frames
        assert all(same_frame(frame, mixed_frames[i % 4]) for i, frame in enumerate(store))
        assert all(same_frame(frame, mixed_frames[i % 4]) for i, frame in enumerate(store.iterate(1023), start=1023))
        assert len(list(store.iterate(1023))) == n_frames - 1023


def test_writing_holds_few_frames_at_a_time(mixed_frames, tmp_path):
    """A generator is asked for a part only when the part before it is in the file, so any number of frames fits."""
    alive: list[weakref.ref] = []
    most_alive = 0

    def stream():
        nonlocal most_alive
        for i in range(4 * FRAMES_AT_ONCE):
            frame = Frame(**vars(mixed_frames[i % 4]))
            alive.append(weakref.ref(frame))
            if i % 100 == 0:
                alive[:] = [reference for reference in alive if reference() is not None]
                most_alive = max(most_alive, len(alive))
            yield frame

    write_store(tmp_path / "a.h5", stream())
    assert most_alive <= 2 * FRAMES_AT_ONCE


def test_equal_frames_give_equal_files(mixed_frames, tmp_path):
    write_store(tmp_path / "a.h5", mixed_frames)
    write_store(tmp_path / "b.h5", mixed_frames)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_digest_depends_on_contents_only(mixed_frames, tmp_path):
    one = write_store(tmp_path / "a.h5", mixed_frames, provenance={"source": "here"})
    assert one == write_store(tmp_path / "b.h5", iter(mixed_frames), provenance={"source": "there"})
    seen = {one}
    values = vars(mixed_frames[1])
    for change in (
        {"energy": -1.5000000000000002},
        {"energy": None},
        {"forces": None},
        {"stress": None},
        {"positions": values["positions"] + 1e-12},
        {"atomic_numbers": np.array([6, 8, 1, 2])},
        {"pbc": np.array([True, True, False])},
        {"info": {}},
    ):
        changed = [*mixed_frames]
        changed[1] = Frame(**(values | change))
        seen.add(write_store(tmp_path / "c.h5", changed, force=True))
    assert len(seen) == 9
    assert write_store(tmp_path / "c.h5", mixed_frames[::-1], force=True) not in seen


def test_provenance_is_kept(mixed_frames, tmp_path):
    write_store(
        tmp_path / "a.h5", mixed_frames, provenance={"source": "a.npz", "source_energy_unit": "kcal/mol (stated)"}
    )
    with Store(tmp_path / "a.h5") as store:
        assert store.provenance == {"source": "a.npz", "source_energy_unit": "kcal/mol (stated)"}
        assert store.file.attrs["units"] == "eV, Å"


def test_an_existing_file_is_replaced_only_by_force(mixed_frames, tmp_path):
    path = tmp_path / "a.h5"
    write_store(path, mixed_frames)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"EQ3070.*--force"):
        write_store(path, mixed_frames[:1])
    assert path.read_bytes() == before
    write_store(path, mixed_frames[:1], force=True)
    with Store(path) as store:
        assert len(store) == 1
    with pytest.raises(DataError, match="EQ3071"):
        write_store(tmp_path / "nowhere" / "a.h5", mixed_frames)


def test_a_failed_write_leaves_nothing_and_harms_nothing(mixed_frames, tmp_path):
    path = tmp_path / "a.h5"
    write_store(path, mixed_frames)
    before = path.read_bytes()
    bad = Frame(**(vars(mixed_frames[0]) | {"energy": float("nan")}))
    with pytest.raises(DataError, match="frame 1: energy is nan"):
        write_store(path, [mixed_frames[0], bad], force=True)
    with pytest.raises(DataError, match="EQ3920"):
        write_store(path, [], force=True)

    def interrupted():
        yield mixed_frames[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(path, interrupted(), force=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_every_truncation_is_refused(mixed_frames, tmp_path):
    write_store(tmp_path / "a.h5", mixed_frames)
    content = (tmp_path / "a.h5").read_bytes()
    for length in [0, 1, 7, *range(8, len(content), 499), len(content) - 1]:
        (tmp_path / "short.h5").write_bytes(content[:length])
        with pytest.raises(DataError, match="EQ3072"):
            Store(tmp_path / "short.h5").verify()


def test_a_store_of_an_earlier_version_opens(same_frame, ethanol_file, water_file):
    """Three frames of ethanol, two of water with stress and a dimer, written in the first form of schema 2."""
    expected = [*read_frames(ethanol_file)[:3], *read_frames(water_file)[:2]]
    with Store(EARLIER) as store:
        store.verify()
        assert store.digest == DIGEST
        assert store.provenance == {"source": "ethanol_gfn2_20frames.npz, water16_gfn1_5frames.extxyz"}
        assert len(store) == 6
        assert all(same_frame(a, b) for a, b in zip(store, expected, strict=False))
        assert store[5].info == {"config_type": "dimer", "step": 3}
        assert store[5].pbc.tolist() == [True, False, False]
        assert store.has("stress").tolist() == [False, False, False, True, True, False]
        assert store.species == [1, 6, 8]


def test_a_flipped_bit_in_the_numbers_is_found(mixed_frames, tmp_path):
    """Fletcher-32 of the chunk finds it when it is read, whichever array it is in."""
    path = tmp_path / "a.h5"
    write_store(path, mixed_frames)
    with h5py.File(path) as file:
        chunks = {name: file[name].id.get_chunk_info(0) for name in ARRAYS if file[name].id.get_num_chunks()}
    assert set(chunks) == set(ARRAYS)
    content = path.read_bytes()
    for chunk in chunks.values():
        damaged = bytearray(content)
        damaged[chunk.byte_offset + chunk.size // 2] ^= 16
        (tmp_path / "flipped.h5").write_bytes(damaged)
        with pytest.raises(DataError, match="EQ3072"):
            Store(tmp_path / "flipped.h5").verify()


def test_changed_numbers_do_not_match_the_digest(mixed_frames, tmp_path):
    write_store(tmp_path / "a.h5", mixed_frames)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["energy"][0] += 1e-9
    with Store(tmp_path / "a.h5") as store, pytest.raises(DataError, match="EQ3076"):
        store.verify()


def test_foreign_newer_and_inconsistent_files(mixed_frames, tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["pos"] = np.zeros((3, 3))
    with pytest.raises(DataError, match=r"EQ3073.*it holds pos"):
        Store(tmp_path / "foreign.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match="EQ3072"):
        Store(tmp_path / "text.h5")
    with pytest.raises(DataError, match="EQ3024"):
        Store(tmp_path / "nowhere.h5")

    def changed(change):
        write_store(tmp_path / "a.h5", mixed_frames, force=True)
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            change(file)
        with pytest.raises(DataError) as caught:
            Store(tmp_path / "a.h5")
        return caught.value.id

    assert changed(lambda file: file.attrs.modify("schema", 3)) == "EQ3074"
    assert changed(lambda file: file.attrs.modify("schema", 1)) == "EQ3074"
    assert changed(lambda file: file.__delitem__("atoms")) == "EQ3950"
    assert changed(lambda file: file["energy"].resize(2, axis=0)) == "EQ3954"
    assert changed(lambda file: file["offsets"].resize(0, axis=0)) == "EQ3954"
    assert changed(lambda file: file["offsets"].write_direct(np.array([0, 5, 2, 8, 10]))) == "EQ3954"
    assert changed(lambda file: file["offsets"].write_direct(np.array([0, 3, 7, 8, 11]))) == "EQ3954"


def test_a_store_can_go_to_another_process(mixed_frames, tmp_path, same_frame):
    write_store(tmp_path / "a.h5", mixed_frames)
    with Store(tmp_path / "a.h5") as store:
        copy = pickle.loads(pickle.dumps(store))
    assert same_frame(copy.frame(1), mixed_frames[1])
    copy.close()


def test_front_door_reads_a_store(mixed_frames, tmp_path, same_frame):
    write_store(tmp_path / "a.h5", mixed_frames)
    assert all(same_frame(a, b) for a, b in zip(mixed_frames, read_frames(tmp_path / "a.h5"), strict=True))
    with pytest.raises(DataError, match="EQ3011"):
        read_frames(tmp_path / "a.h5", energy_unit="kcal/mol")


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(mixed_frames, tmp_path, same_frame):
    write_store(tmp_path / "a.h5", mixed_frames)
    content = (tmp_path / "a.h5").read_bytes()
    random = np.random.default_rng(11)
    n_refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        (tmp_path / "flipped.h5").write_bytes(damaged)
        try:
            found = read_frames(tmp_path / "flipped.h5")
        except DataError:
            n_refused += 1
        else:
            assert all(same_frame(a, b) for a, b in zip(mixed_frames, found, strict=True))
    assert n_refused > 10


@settings(max_examples=10, deadline=None)
@given(written=st.lists(frames(), min_size=1, max_size=12), data=st.data())
def test_any_frames_in_any_order(written, data, same_frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.h5"
    write_store(path, written)
    chosen = data.draw(st.lists(st.integers(0, len(written) - 1), max_size=20))
    with Store(path) as store:
        found = store.frames_at(chosen)
        assert len(found) == len(chosen)
        assert all(same_frame(a, written[i]) and a.info == written[i].info for a, i in zip(found, chosen, strict=True))
        assert store.n_atoms.dtype == np.int64
        assert store.n_atoms.tolist() == [len(f.atomic_numbers) for f in written]
        assert store.species == sorted({z for f in written for z in f.atomic_numbers.tolist()})
        assert store.has("forces").dtype == bool
        assert store.has("forces").tolist() == [f.forces is not None for f in written]
        assert store.energy.tolist() == [f.energy or 0.0 for f in written]
        with pytest.raises(IndexError):
            store.frames_at([0, len(written)])
