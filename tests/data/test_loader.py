import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader, DynamicBatchSampler

from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset, collate, frame_data, make_loader, set_epoch, to_structure
from eqff.data.reading.read import read_frames
from eqff.data.store.store import Store, write_store
from eqff.errors import ConfigError, DataError
from eqff.graph import Structure, batch_structures, edge_vectors
from eqff.neighbors import build_structure

SPECIES = ("H", "C", "O")


@pytest.fixture(scope="module")
def frames(ethanol_file, water_file) -> list[Frame]:
    """Molecules and crystals, and one atom alone without edges."""
    alone = Frame(atomic_numbers=np.array([1]), positions=np.zeros((1, 3)), energy=-13.6, forces=np.zeros((1, 3)))
    ethanol, water = read_frames(ethanol_file), read_frames(water_file)
    return [ethanol[0], water[0], alone, ethanol[1], water[1], *ethanol[2:]]


@pytest.fixture(scope="module")
def dataset(frames) -> FrameDataset:
    return FrameDataset(frames, SPECIES, 4.0)


def one_by_one(frames) -> Structure:
    index = np.zeros(9, dtype=np.int64)
    index[[1, 6, 8]] = 0, 1, 2
    return batch_structures([build_structure(f.positions, index[f.atomic_numbers], f.cell, f.pbc, 4.0) for f in frames])


def test_a_batch_is_what_structures_one_by_one_give(dataset, frames):
    (batch,) = make_loader(dataset[:5], batch_size=5)
    found, expected = to_structure(batch), one_by_one(frames[:5])
    for name in Structure._fields:
        a, b = getattr(found, name), getattr(expected, name)
        if name == "n_graphs":
            assert a == b == 5
        else:
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name
    assert torch.equal(edge_vectors(found), edge_vectors(expected))
    assert batch.energy.tolist() == [frame.energy for frame in frames[:5]]
    assert torch.equal(batch.forces, torch.tensor(np.concatenate([f.forces for f in frames[:5]])))
    assert batch.forces.dtype == batch.energy.dtype == batch.stress.dtype == torch.float64
    assert batch.stress.shape == (5, 6)
    assert batch.has_stress.tolist() == [False, True, False, False, True]
    assert batch.frame_index.tolist() == [0, 1, 2, 3, 4]


def test_edges_stay_sorted_by_receiver_and_sender(dataset):
    for batch in make_loader(dataset, batch_size=7, shuffle=True, seed=2):
        key = batch.receivers * batch.num_nodes + batch.senders
        assert (key.diff() >= 0).all()
        assert (batch.batch[batch.senders] == batch.batch[batch.receivers]).all()


def test_names_of_pyg_are_there(dataset):
    (batch,) = make_loader(dataset[:2], batch_size=2)
    assert torch.equal(batch.edge_index, torch.stack([batch.senders, batch.receivers]))
    assert torch.equal(batch.pos, batch.positions)
    assert batch.num_edges == batch.senders.shape[0]
    assert batch.num_graphs == 2
    assert batch.num_nodes == 9 + 48
    single = Batch.from_data_list([dataset[0], dataset[1]])[1]  # PyG's own batches can be taken apart
    assert torch.equal(single.senders, dataset[1].senders)


def test_batches_are_those_of_pyg(dataset):
    frames = [dataset[index] for index in (0, 1, 2, 1, 4)]
    ours, theirs = collate(frames), Batch.from_data_list(frames)
    assert set(ours.keys()) == set(theirs.keys())
    for name in theirs.keys():  # noqa: SIM118  a Batch is no mapping
        if name != "num_nodes":
            assert torch.equal(ours[name], theirs[name]), name
    assert ours.num_nodes == theirs.num_nodes
    assert ours.num_graphs == theirs.num_graphs == 5


def test_one_frame_is_a_structure_too(dataset):
    structure = to_structure(dataset[3])
    assert structure.n_graphs == 1
    assert structure.batch.tolist() == [0] * 9
    assert structure.batch.dtype == torch.int64


@pytest.mark.parametrize("size", [{"batch_size": 4}, {"max_edges": 300}])
def test_a_resumed_loader_repeats_the_epoch(dataset, size):
    def epoch(loader, number):
        set_epoch(loader, number)
        return [batch.frame_index.tolist() for batch in loader]

    loader = make_loader(dataset, shuffle=True, seed=5, **size)
    run = [epoch(loader, number) for number in range(3)]
    assert run[0] != run[1]
    assert sorted(chain(*run[0])) == list(range(len(dataset)))
    assert epoch(make_loader(dataset, shuffle=True, seed=5, **size), 2) == run[2]
    still = make_loader(dataset, shuffle=False, **size)
    assert list(chain(*epoch(still, 0))) == list(chain(*epoch(still, 1))) == list(range(len(dataset)))


def test_lightning_finds_the_samplers(dataset):
    from lightning.fabric.utilities.data import _set_sampler_epoch

    for size in ({"batch_size": 4}, {"max_edges": 300}):
        ours, theirs = (make_loader(dataset, shuffle=True, seed=5, **size) for _ in range(2))
        set_epoch(ours, 7)
        _set_sampler_epoch(theirs, 7)
        first, second = ([b.frame_index.tolist() for b in loader] for loader in (ours, theirs))
        assert first == second


def test_batches_by_edges_are_full_but_never_fuller(dataset):
    n_edges = [dataset[i].num_edges for i in range(len(dataset))]
    loader = make_loader(dataset, max_edges=300, shuffle=True, seed=1)
    assert isinstance(loader.batch_sampler, DynamicBatchSampler)
    batches = [batch.frame_index.tolist() for batch in loader]
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        count = sum(n_edges[i] for i in batch)
        assert count <= 300 or len(batch) == 1  # a frame that is too large by itself comes alone
        if following is not None:
            assert count + n_edges[following[0]] > 300
    with pytest.raises(TypeError):
        len(loader)
    assert max(n_edges) > 300 > min(n_edges) == 0


def test_a_larger_cut_off_of_the_lists(frames):
    near, far = FrameDataset(frames, SPECIES, 2.0), FrameDataset(frames, SPECIES, 2.0, r_edges=20.0)
    ethanol = [0, 3, *range(5, 20)]
    assert len({near[i].num_edges for i in ethanol}) > 1
    assert {far[i].num_edges for i in ethanol} == {9 * 8}
    structure = to_structure(far[0])
    inside = edge_vectors(structure).norm(dim=1) < 2.0
    assert torch.equal(structure.senders[inside], near[0].senders)
    assert torch.equal(structure.receivers[inside], near[0].receivers)


@pytest.mark.parametrize("n_edges", [2, 4, 6, 8])
def test_of_equally_short_edges_none_stays_without_its_reverse(n_edges):
    corners = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    square = Frame(atomic_numbers=np.array([1, 1, 1, 1]), positions=np.array(corners))
    data = frame_data(square, ("H",), 5.0, n_edges=n_edges)
    edges = set(zip(data.senders.tolist(), data.receivers.tolist(), strict=True))
    assert len(edges) == n_edges
    assert edges == {(receiver, sender) for sender, receiver in edges}


def test_so_many_shortest_edges_of_each_frame(frames):
    near, far = FrameDataset(frames, SPECIES, 2.0), FrameDataset(frames, SPECIES, 2.0, r_edges=20.0)
    ethanol = [0, 3, *range(5, 20)]
    n_edges = max(near[i].num_edges for i in ethanol)
    equal = FrameDataset(frames, SPECIES, 2.0, r_edges=20.0, n_edges=n_edges)
    for i in ethanol:
        structure = to_structure(equal[i])
        length = edge_vectors(structure).norm(dim=1)
        assert len(length) == n_edges
        assert torch.equal(structure.receivers, structure.receivers.sort().values)
        inside = length < 2.0
        assert torch.equal(structure.senders[inside], near[i].senders)  # all of these, in their order
        assert torch.equal(structure.receivers[inside], near[i].receivers)
        others = edge_vectors(to_structure(far[i])).norm(dim=1).sort().values
        torch.testing.assert_close(length.sort().values, others[:n_edges], rtol=0.0, atol=0.0)


def test_lists_are_found_once_and_shared_by_parts(dataset):
    assert dataset[4] is dataset[4]
    part = dataset[np.array([4, 2])]
    assert len(part) == 2
    assert part[0] is dataset[4]


def test_labels_that_are_required(mixed_frames):
    with pytest.raises(DataError, match="frame 2 has no energy") as caught:
        FrameDataset(mixed_frames, SPECIES, 4.0)
    assert caught.value.id == "EQ3060"
    dataset = FrameDataset(mixed_frames, SPECIES, 4.0, require=())
    (batch,) = make_loader(dataset, batch_size=4)
    assert batch.has_energy.tolist() == [True, True, False, False]
    assert batch.has_forces.tolist() == [False, True, True, False]
    assert batch.has_stress.tolist() == [False, True, False, False]
    for name in ("energy", "forces", "stress"):
        assert torch.isfinite(batch[name]).all()  # a mask can multiply it


def test_a_store_is_read_as_needed(frames, tmp_path, dataset):
    write_store(tmp_path / "a.h5", frames)
    with Store(tmp_path / "a.h5") as store:
        lazy = FrameDataset(store, SPECIES, 4.0)
        copy = pickle.loads(pickle.dumps(lazy))  # what a loader's worker gets
        for from_store, from_memory in zip(
            make_loader(lazy, batch_size=6), make_loader(dataset, batch_size=6), strict=True
        ):
            for name in from_memory.keys():  # noqa: SIM118  # PyG's keys is a method, its iterator gives pairs
                assert np.array_equal(from_store[name], from_memory[name]), name
        assert torch.equal(copy[1].senders, lazy[1].senders)
        copy.source.close()


def test_pygs_own_loader_works_as_well(dataset):
    (batch,) = DataLoader(dataset[:3], batch_size=3)
    assert to_structure(batch).n_graphs == 3


def test_errors(frames, dataset):
    for r_max, r_edges in ((0.0, None), (-1.0, None), (4.0, 3.0), (float("nan"), None)):
        with pytest.raises(ConfigError, match="EQ1032"):
            FrameDataset(frames, SPECIES, r_max, r_edges)
    with pytest.raises(ConfigError, match="EQ1033"):
        FrameDataset(frames, SPECIES, 4.0, require=("dipole",))
    with pytest.raises(DataError, match="EQ3310"):
        FrameDataset(frames, ("H", "O"), 4.0)
    for size in ({}, {"batch_size": 0}, {"max_edges": 0}, {"batch_size": 2, "max_edges": 9}):
        with pytest.raises(ConfigError, match="EQ1034"):
            make_loader(dataset, **size)
    with pytest.raises(DataError, match="EQ3921"):
        make_loader(dataset[:0], batch_size=2)


def batches_of(dataset, **options):
    return [
        {name: batch[name] for name in batch.keys()}  # noqa: SIM118
        for batch in make_loader(dataset, shuffle=True, seed=3, **options)
    ]


@pytest.mark.parametrize("size", [{"batch_size": 6}, {"max_edges": 400}])
@pytest.mark.parametrize("cache_bytes", [0, 100_000])
def test_batches_do_not_depend_on_what_is_kept(frames, dataset, tmp_path, size, cache_bytes):
    """A store larger than memory: nothing, or a part, is kept from epoch to epoch."""
    write_store(tmp_path / "a.h5", frames)
    with Store(tmp_path / "a.h5") as store:
        bounded = FrameDataset(store, SPECIES, 4.0, cache_bytes=cache_bytes)
        for _ in range(2):
            for one, other in zip(batches_of(bounded, **size), batches_of(dataset, **size), strict=True):
                assert all(np.array_equal(one[name], other[name]) for name in other)
        assert bounded.kept.used <= cache_bytes
        assert len(bounded.kept.frames) < len(frames)
        assert bool(bounded.kept.frames) == bool(cache_bytes)
        assert bounded.edge_count.tolist() == [dataset[i].num_edges for i in range(len(dataset))]


def test_a_batch_is_read_from_a_store_in_one_go(frames, tmp_path, monkeypatch):
    write_store(tmp_path / "a.h5", frames)
    asked = []
    read = Store.frames_at
    monkeypatch.setattr(Store, "frames_at", lambda store, rows: (asked.append(list(rows)), read(store, rows))[1])
    with Store(tmp_path / "a.h5") as store:
        dataset = FrameDataset(store, SPECIES, 4.0, cache_bytes=0)
        part = dataset[[7, 1, 3, 5]]
        (batch,) = make_loader(part, batch_size=4)
        assert batch.frame_index.tolist() == [7, 1, 3, 5]
        assert asked == [[7, 1, 3, 5]]
        assert part.n_edges([1, 0]).tolist() == [dataset[1].num_edges, dataset[7].num_edges]


def test_a_store_is_checked_before_anything_is_read(mixed_frames, tmp_path):
    write_store(tmp_path / "a.h5", mixed_frames)
    with Store(tmp_path / "a.h5") as store:
        with pytest.raises(DataError, match=r"EQ3060.*frame 2 has no energy"):
            FrameDataset(store, SPECIES, 4.0)
        with pytest.raises(DataError, match=r"EQ3310.*frames contain H C O, but species=H O has no C"):
            FrameDataset(store, ("H", "O"), 4.0, require=())
        assert len(FrameDataset(store, SPECIES, 4.0, require=())) == 4
