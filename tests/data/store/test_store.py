import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.data.store import store as store_module
from eqff.data.store.journal import journal_path
from eqff.data.store.layout import ARRAYS
from eqff.data.store.store import Store, StoreWriter, write_store
from eqff.errors import DataError

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


def test_more_frames_than_one_block_from_a_generator(mixed_frames, tmp_path, same_frame):
    n_frames = 2500
    write_store(tmp_path / "a.h5", (mixed_frames[i % 4] for i in range(n_frames)))
    with Store(tmp_path / "a.h5") as store:
        assert len(store) == n_frames
        assert all(same_frame(frame, mixed_frames[i % 4]) for i, frame in enumerate(store))


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
        tmp_path / "a.h5", mixed_frames, provenance={"source": "a.npz", "source_energy_unit": "kcal/mol (told)"}
    )
    with Store(tmp_path / "a.h5") as store:
        assert store.provenance == {"source": "a.npz", "source_energy_unit": "kcal/mol (told)"}
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
    with pytest.raises(DataError, match="EQ3025"):
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
        with pytest.raises(DataError) as caught:
            Store(tmp_path / "short.h5").verify()
        assert caught.value.id == "EQ3072"


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
    assert changed(lambda file: file.__delitem__("atoms")) == "EQ3072"
    assert changed(lambda file: file["energy"].resize(2, axis=0)) == "EQ3072"
    assert changed(lambda file: file["offsets"].resize(0, axis=0)) == "EQ3072"
    assert changed(lambda file: file["offsets"].write_direct(np.array([0, 5, 2, 8, 10]))) == "EQ3072"
    assert changed(lambda file: file["offsets"].write_direct(np.array([0, 3, 7, 8, 11]))) == "EQ3072"


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


def test_a_store_of_schema_1_still_opens(same_frame, ethanol_file, water_file, tmp_path):
    """Written by eqff 0.1: three frames of ethanol, two of water with stress, and a dimer without labels."""
    path = Path(__file__).parent / "files" / "store_schema_1.h5"
    expected = [*read_frames(ethanol_file)[:3], *read_frames(water_file)[:2]]
    with Store(path) as store:
        store.verify()
        assert store.schema == 1
        assert store.digest == "967235abfcd0d4c3295671ee1410e6ab91748d714132bd6e3ac2dba713454a0e"
        assert store.provenance == {"source": "ethanol_gfn2_20frames.npz, water16_gfn1_5frames.extxyz"}
        assert len(store) == 6
        assert all(same_frame(a, b) for a, b in zip(store, expected, strict=False))
        assert store[5].info == {"config_type": "dimer", "step": 3}
        assert store[5].pbc.tolist() == [True, False, False]
        assert store.has("stress").tolist() == [False, False, False, True, True, False]
        assert store.species == [1, 6, 8]
        scattered = store.frames_at([4, 0, 4, 2])
        assert all(same_frame(a, store[i]) for a, i in zip(scattered, (4, 0, 4, 2), strict=True))
        write_store(tmp_path / "new.h5", store)
    shutil.copy(path, tmp_path / "old.h5")
    with pytest.raises(DataError, match=r"EQ3303.*eqff data convert"):
        StoreWriter(tmp_path / "old.h5", append=True)
    with Store(tmp_path / "new.h5") as store, Store(path) as old:
        assert store.schema == 2
        assert all(same_frame(a, b) and a.info == b.info for a, b in zip(store, old, strict=True))


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
        assert store.n_atoms.tolist() == [len(f.atomic_numbers) for f in written]
        assert store.species == sorted({z for f in written for z in f.atomic_numbers.tolist()})
        assert store.has("forces").tolist() == [f.forces is not None for f in written]
        assert store.energy.tolist() == [f.energy or 0.0 for f in written]
        with pytest.raises(IndexError):
            store.frames_at([0, len(written)])


def test_what_repeats_is_kept_once(mixed_frames, tmp_path):
    """Compositions always; cells and info as long as they do not change."""
    write_store(tmp_path / "a.h5", [mixed_frames[i % 4] for i in range(400)] + [mixed_frames[1]] * 100)
    with Store(tmp_path / "a.h5") as store:
        assert store.file["composition_offsets"].shape == (5,)
        assert store.file["cells"].shape == (1, 3, 3)
        assert store.file["stresses"].shape == (200, 6)
        assert store.file["info_offsets"].shape == (2,)


def test_atoms_are_compressed_only_where_it_pays(tmp_path):
    noise = np.random.default_rng(0)
    numbers = np.ones(20, dtype=int)
    hot = [Frame(atomic_numbers=numbers, positions=noise.normal(size=(20, 3)) * 9, energy=0.0) for _ in range(50)]
    full = [Frame(**(vars(frame) | {"forces": noise.normal(size=(20, 3))})) for frame in hot]
    write_store(tmp_path / "full.h5", full)
    write_store(tmp_path / "without_forces.h5", hot)
    with Store(tmp_path / "full.h5") as store:
        assert store.file["atoms"].compression is None
        assert store.file["atoms"].fletcher32
    with Store(tmp_path / "without_forces.h5") as store:
        assert store.file["atoms"].compression == "gzip"
    assert os.path.getsize(tmp_path / "without_forces.h5") < 0.75 * os.path.getsize(tmp_path / "full.h5")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(store_module, "FRAMES_PER_CHUNK", 3)


def test_a_growing_store_is_what_one_written_at_once_is(mixed_frames, tmp_path, same_frame, small_chunks):
    frames = [mixed_frames[i % 4] for i in range(11)]
    path = tmp_path / "a.h5"
    with StoreWriter(path, provenance={"source": "md"}) as writer:
        writer.extend(frames[:5])
        assert (len(writer), writer.n_written) == (5, 3)
        writer.flush()
        assert writer.n_written == 5
    for part in (frames[5:6], [], frames[6:]):
        with StoreWriter(path, append=True) as writer:
            writer.extend(part)
    digest = write_store(tmp_path / "b.h5", frames)
    with Store(path) as store:
        store.verify()
        assert store.digest == digest
        assert store.provenance == {"source": "md"}
        assert all(same_frame(a, b) and a.info == b.info for a, b in zip(store, frames, strict=True))
        assert store.file["composition_offsets"].shape == (5,)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["a.h5", "b.h5"]


def test_frames_before_an_exception_are_kept_and_a_bad_one_is_refused(mixed_frames, tmp_path, small_chunks):
    path = tmp_path / "a.h5"
    bad = Frame(**(vars(mixed_frames[0]) | {"energy": float("inf")}))
    with pytest.raises(DataError, match="frame 4: energy is inf"), StoreWriter(path) as writer:
        writer.extend([*mixed_frames, bad])
    with Store(path) as store:
        store.verify()
        assert len(store) == 4
    with pytest.raises(DataError, match="EQ3304"):
        writer.append(mixed_frames[0])
    writer.close()
    with pytest.raises(DataError, match="EQ3070"):
        StoreWriter(path)
    with pytest.raises(DataError, match="EQ3071"):
        StoreWriter(tmp_path / "nowhere" / "a.h5")
    with StoreWriter(tmp_path / "empty.h5"):
        pass
    assert not (tmp_path / "empty.h5").exists()


def test_a_second_writer_is_refused_and_readers_are_not(mixed_frames, tmp_path, same_frame, small_chunks):
    path = tmp_path / "a.h5"
    with StoreWriter(path) as writer:
        writer.extend(mixed_frames[:3])
        for append in (True, False):
            with pytest.raises(DataError, match="EQ3300" if append else "EQ3070"):
                StoreWriter(path, append=append)
        with Store(path) as early:
            writer.extend(mixed_frames)
            with Store(path) as late:
                assert (len(early), len(late)) == (3, 6)
                assert same_frame(late[5], mixed_frames[2])
            assert all(same_frame(a, b) for a, b in zip(early, mixed_frames, strict=False))
    with StoreWriter(path, append=True) as writer:
        assert len(writer) == 7


class Killed(BaseException):
    pass


def test_a_crash_at_any_write_costs_the_last_chunk_at_most(mixed_frames, tmp_path, monkeypatch, small_chunks):
    """The process dies when so many bytes of the chunk have reached the file; the journal was complete."""
    pwrite, path, n_deaths = os.pwrite, tmp_path / "a.h5", 0
    left = 0

    def dying(file, data, offset):
        nonlocal left
        done = pwrite(file, data[:left], offset)
        left -= done
        if done < len(data):
            raise Killed
        return done

    for n_bytes in range(0, 200_000, 3001):
        path.unlink(missing_ok=True)
        with StoreWriter(path) as writer:
            writer.extend(mixed_frames[:3])
        writer, left = StoreWriter(path, append=True), n_bytes
        monkeypatch.setattr(os, "pwrite", dying)
        try:
            writer.extend([mixed_frames[3], *mixed_frames[:2]])
        except Killed:
            n_deaths += 1
        monkeypatch.setattr(os, "pwrite", pwrite)
        writer._lock.release()  # what the system does for a process that is gone
        with Store(path) as store:
            store.verify()
            assert len(store) == 6
        if left > 0:
            break
    assert n_deaths >= 3
    with StoreWriter(path, append=True) as writer:
        writer.extend(mixed_frames)
    with Store(path) as store:
        store.verify()
        assert len(store) == 10


def test_a_torn_journal_costs_the_chunk(mixed_frames, tmp_path, small_chunks):
    path = tmp_path / "a.h5"
    with StoreWriter(path) as writer:
        writer.extend(mixed_frames[:3])
    before = path.read_bytes()
    journal_path(path).write_bytes(b"eqffjrn1" + bytes(500))
    with Store(path) as store:
        store.verify()
        assert len(store) == 3
    assert path.read_bytes() == before
    assert not journal_path(path).exists()


CHILD = """
import sys
import numpy as np
from eqff.data.store.store import store
from eqff.data.frame import Frame

store.FRAMES_PER_CHUNK = 50
with store.StoreWriter(sys.argv[1], append=True) as writer:
    while True:
        i = len(writer)
        positions = np.arange(15).reshape(5, 3) + np.random.default_rng(i).random((5, 3)) * 0.1
        writer.append(Frame(atomic_numbers=np.full(5, 1 + i % 7), positions=positions, forces=positions / 7, energy=i))
        if i % 50 == 49:
            print(writer.n_written, flush=True)
"""


def kill_while_writing(path, seconds):
    """Number of frames that the writer knew to be safe when it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    rest = child.stdout.read().split()
    child.wait()
    child.stdout.close()
    return int((rest or [first])[-1])


@pytest.mark.parametrize("n_kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_sigkill_while_writing(n_kills, tmp_path):
    path = tmp_path / "a.h5"
    moments = random.Random(n_kills)
    for _ in range(n_kills):
        n_safe = kill_while_writing(path, moments.uniform(0.0, 0.3))
        with Store(path) as store:
            store.verify()
            assert n_safe <= len(store) <= n_safe + 50
            for i in (0, len(store) // 2, len(store) - 1):
                frame = store[i]
                assert frame.energy == i
                expected = np.arange(15).reshape(5, 3) + np.random.default_rng(i).random((5, 3)) * 0.1
                assert np.array_equal(frame.positions, expected)
                assert frame.atomic_numbers.tolist() == [1 + i % 7] * 5
