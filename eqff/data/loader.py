"""Frames as torch_geometric data sets and batches: every neighbour list is made once, a resumed run repeats the order.

Any PyG model can be trained on these batches: `edge_index` and `pos` are there under PyG's names too.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader
from torch_geometric.data import Batch, Data, Dataset

from eqff.data.frame import LABELS, Frame
from eqff.data.frame_list import FrameList, Frames, read_in_groups
from eqff.data.samplers import COUNTED_TOGETHER, EdgeBatchSampler, FrameSampler, SharedBatchSampler
from eqff.elements import SYMBOLS, species_index
from eqff.errors import ConfigError, DataError
from eqff.graph import Structure, edge_vectors_numpy
from eqff.neighbors import Edges, neighbor_list

GEOMETRY = tuple(name for name in Structure._fields if name not in ("batch", "n_graphs"))  # which batching adds


class FrameData(Data):
    """One frame as tensors: the fields of a Structure with n_graphs = 1, and labels.

    energy [1] eV, forces [n_atoms, 3] eV/Å, stress [1, 6] eV/Å^3 in Voigt order; has_energy, has_forces, has_stress [1]
    bool (an absent label is 0, and so is a stress without a volume); label_weights [1, 3] of energy, forces, stress in
    the loss; frame_index [1].  Floats are float64, integers int64.  Batching concatenates everything
    and shifts senders and receivers by the number of atoms before them.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key in ("senders", "receivers") else 0

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 0

    @property
    def num_edges(self) -> int:
        """Number of edges: DynamicBatchSampler(mode="edge") counts by it."""
        return int(self.senders.shape[0])

    @property
    def edge_index(self) -> Tensor:
        """[2, n_edges] in PyG's order: from sender (row 0) to receiver (row 1)."""
        return torch.stack([self.senders, self.receivers])

    @property
    def pos(self) -> Tensor:
        """PyG's name for positions."""
        return self.positions


CACHE_BYTES = 2**30  # of frames with their neighbour lists that a data set keeps: 50,000 frames of 21 atoms at 5 Å
FRAME_OVERHEAD = 4096  # bytes of a FrameData beside its numbers


class FrameDataset(Dataset):
    """Frames with their neighbour lists; a list is made when its frame is first used, and kept while there is room.

    Args:   source: frames in memory, or a Store, which is read as needed and may be larger than memory;
            species: symbols, their order gives the index;
            r_max Å; r_edges Å: cut-off of the lists if larger than r_max (edges beyond r_max add exactly 0 to any
            energy; they make the numbers of edges of one molecule equal); n_edges: keep only this many edges of a
            frame, the shortest; require: labels that every frame must have;
            cache_bytes: of frames that are kept, by all processes of a loader together
    Raises: ConfigError EQ1032 for an impossible cut-off, EQ1033 for an unknown label; DataError EQ3060 for a frame
            without a required label, EQ3310 for elements that are not in species
    """

    def __init__(
        self,
        source: Sequence[Frame] | Frames,
        species: Sequence[str],
        r_max: float,
        r_edges: float | None = None,
        n_edges: int | None = None,
        require: Sequence[str] = ("energy", "forces"),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__()
        r_edges = r_max if r_edges is None else r_edges
        if not 0.0 < r_max <= r_edges:
            raise ConfigError(
                "EQ1032",
                f"r_max={r_max} Å, r_edges={r_edges} Å: expected 0 < r_max <= r_edges; "
                "r_edges is the cut-off plus the skin",
            )
        unknown = sorted(set(require) - set(LABELS))
        if unknown:
            raise ConfigError("EQ1033", f"require={unknown} is no label; choose from {', '.join(LABELS)}")
        self.source: Frames = FrameList(source) if isinstance(source, list | tuple) else source  # type: ignore[assignment]
        self.species = tuple(species)
        self.r_edges, self.n_shortest = float(r_edges), n_edges
        self.require = tuple(require)
        self.kept = KeptFrames(cache_bytes)
        self.edge_count = np.full(len(source), -1, dtype=np.int32)  # -1: not counted yet
        self.periodic = np.zeros(len(source), dtype=bool)  # in any direction; known once edges are counted
        self._check()

    def len(self) -> int:
        """Number of frames (all; a subset made by indexing has its own len())."""
        return len(self.edge_count)

    def get(self, idx: int) -> FrameData:
        """Frame idx as tensors."""
        return self._frames([idx])[0]

    def __getitems__(self, positions: list[int]) -> list[FrameData]:
        """What a DataLoader asks for: a batch, read from a store in one go."""
        indices = self.indices()
        return self._frames([int(indices[k]) for k in positions])

    def n_edges(self, positions: Sequence[int]) -> np.ndarray:
        """[n] numbers of edges of frames of this set; lists that do not exist yet are made."""
        indices = self.indices()
        rows = np.array([int(indices[k]) for k in positions], dtype=np.int64)
        for start in range(0, len(rows), COUNTED_TOGETHER):
            group = rows[start : start + COUNTED_TOGETHER]
            self._frames(group[self.edge_count[group] < 0].tolist())
        return self.edge_count[rows]

    def with_edges(self, rows: np.ndarray) -> Iterator[tuple[Frame, Edges]]:
        """Frames of the source and their edges, one after the other.

        Args: rows [n] frame numbers of the source
        """
        for row, frame in read_in_groups(self.source, rows):
            (data,) = self._made([row], [frame])
            yield frame, (data.senders.numpy(), data.receivers.numpy(), data.edge_shift.numpy())

    def with_equal_edges(self, r_edges: float, n_edges: int) -> "FrameDataset":
        """The same frames, each with its n_edges shortest edges; frames that have exactly these keep their lists.

        Args: r_edges Å: cut-off within which every frame has n_edges edges
        """
        equal = copy.copy(self)
        equal.r_edges, equal.n_shortest = float(r_edges), n_edges
        equal.kept = KeptFrames(self.kept.n_bytes)
        equal.edge_count = np.full(len(self.edge_count), -1, dtype=np.int32)
        for row, data in self.kept.frames.items():
            if data.num_edges == n_edges:
                equal.kept.add(row, data)
                equal.edge_count[row] = n_edges
        return equal

    def _frames(self, rows: list[int]) -> list[FrameData]:
        missing = [row for row in rows if self.kept.get(row) is None]
        made = dict(zip(missing, self._made(missing, self.source.frames_at(missing)), strict=True))
        return [made[row] if row in made else self.kept.frames[row] for row in rows]

    def _made(self, rows: list[int], frames: list[Frame]) -> list[FrameData]:
        """Tensors of frames that were read; those that are kept are taken from there."""
        found = []
        for row, frame in zip(rows, frames, strict=True):
            data = self.kept.get(row)
            if data is None:
                data = frame_data(frame, self.species, self.r_edges, row, self.n_shortest)
                self.edge_count[row], self.periodic[row] = data.num_edges, frame.pbc.any()
                self.kept.add(row, data)
            found.append(data)
        return found

    def _check(self) -> None:
        present = [SYMBOLS[z] for z in self.source.species]
        unknown = [symbol for symbol in present if symbol not in self.species]
        if unknown:
            raise DataError(
                "EQ3310",
                f"the frames contain {' '.join(present)}, but species={' '.join(self.species)} has no "
                f"{' '.join(unknown)}; add them, or select frames without",
            )
        for name in self.require:
            has = self.source.has(name)
            if not has.all():
                raise DataError(
                    "EQ3060",
                    f"frame {int(np.argmin(has))} has no {name}; drop such frames, or leave {name!r} out of the loss",
                )


class KeptFrames:
    """Frames with their neighbour lists, up to a number of bytes.

    The first that come stay: every epoch asks for all frames once, so none is a better choice than another.

    Args: n_bytes: of this process, or of all workers of a loader together
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.used = 0
        self.frames: dict[int, FrameData] = {}

    def get(self, row: int) -> FrameData | None:
        """A frame that is kept, or None."""
        return self.frames.get(row)

    def add(self, row: int, data: FrameData) -> None:
        """Keep a frame if there is room."""
        worker = torch.utils.data.get_worker_info()
        room = self.n_bytes // (1 if worker is None else worker.num_workers)
        size = FRAME_OVERHEAD + sum(value.nbytes for value in data._store.values() if isinstance(value, Tensor))
        if self.used + size <= room:
            self.frames[row] = data
            self.used += size


def frame_data(
    frame: Frame, species: Sequence[str], r_edges: float, index: int = 0, n_edges: int | None = None
) -> FrameData:
    """One frame as tensors, with its edges.

    Args: frame: eV, Å; species: symbols; r_edges Å; index: stored as frame_index; n_edges: keep at most this many
          edges, the shortest; None keeps all
    """
    n_atoms = len(frame.atomic_numbers)
    senders, receivers, edge_shift = neighbor_list(
        frame.positions, frame.cell, frame.pbc, r_edges, where=f"frame {index}"
    )
    if n_edges is not None:
        vectors = edge_vectors_numpy(frame.positions, senders, receivers, edge_shift, frame.cell)
        ends = np.minimum(senders, receivers), np.maximum(senders, receivers)  # an edge stays with its reverse
        shortest = np.sort(np.lexsort((*ends, np.linalg.norm(vectors, axis=1)))[:n_edges])
        senders, receivers, edge_shift = senders[shortest], receivers[shortest], edge_shift[shortest]
    forces = np.zeros((n_atoms, 3)) if frame.forces is None else frame.forces
    stress = np.zeros(6) if frame.stress is None else frame.stress
    return FrameData(
        positions=torch.tensor(frame.positions, dtype=torch.float64),
        species=torch.tensor(species_index(frame.atomic_numbers, species)),
        cell=torch.tensor(frame.cell, dtype=torch.float64).unsqueeze(0),
        pbc=torch.tensor(frame.pbc, dtype=torch.bool).unsqueeze(0),
        senders=torch.tensor(senders, dtype=torch.int64),
        receivers=torch.tensor(receivers, dtype=torch.int64),
        edge_shift=torch.tensor(edge_shift, dtype=torch.int64).reshape(-1, 3),
        energy=torch.tensor([0.0 if frame.energy is None else frame.energy], dtype=torch.float64),
        forces=torch.tensor(forces, dtype=torch.float64),
        stress=torch.tensor(stress, dtype=torch.float64).unsqueeze(0),
        has_energy=torch.tensor([frame.energy is not None]),
        has_forces=torch.tensor([frame.forces is not None]),
        has_stress=torch.tensor([frame.stress is not None and abs(float(np.linalg.det(frame.cell))) > 0.0]),
        label_weights=torch.tensor([frame.label_weights], dtype=torch.float64),
        frame_index=torch.tensor([index]),
        num_nodes=n_atoms,
    )


def collate(frames: Sequence[FrameData]) -> Batch:
    """`Batch.from_data_list` for FrameData, in a tenth of its time.

    Args:    frames: at least one
    Returns: Batch with batch [n_atoms] and ptr [n_graphs + 1]; it cannot be taken apart again
    """
    stores = [frame._store for frame in frames]
    n_atoms = torch.tensor([store["species"].shape[0] for store in stores])
    ptr = torch.cat([n_atoms.new_zeros(1), n_atoms.cumsum(0)])
    fields = {name: torch.cat([store[name] for store in stores]) for name in stores[0] if name != "num_nodes"}
    first = torch.repeat_interleave(ptr[:-1], torch.tensor([store["senders"].shape[0] for store in stores]))
    fields["senders"], fields["receivers"] = fields["senders"] + first, fields["receivers"] + first
    batch = torch.repeat_interleave(torch.arange(len(frames)), n_atoms)
    return Batch(_base_cls=FrameData, batch=batch, ptr=ptr, num_nodes=int(ptr[-1]), **fields)


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    max_edges: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    n_workers: int = 0,
    rank: int = 0,
    n_ranks: int = 1,
) -> DataLoader:
    """A DataLoader of batches of a fixed number of frames or of a largest number of edges.

    Args:    dataset: FrameDataset or a part of it (`dataset[indices]`); batch_size frames or max_edges, one of the two;
             shuffle, seed: see FrameSampler; n_workers: processes that prepare batches;
             rank, n_ranks: which of how many processes this is; batch_size is of all together, max_edges of each
    Returns: torch's DataLoader, which gives torch_geometric batches; `set_epoch` here chooses the order of an epoch,
             as Lightning does by itself
    Raises:  ConfigError EQ1034 unless exactly one size is given and it is >= 1; DataError EQ3921 without frames
    """
    size = batch_size if max_edges is None else max_edges
    if (batch_size is None) == (max_edges is None) or size is None or size < 1:
        raise ConfigError(
            "EQ1034",
            f"batch_size={batch_size}, max_edges={max_edges}: expected one of them, >= 1; leave the other out",
        )
    if len(dataset) == 0:
        raise DataError("EQ3921", "loader: the data set has no frames; give a file or a split with at least one")
    sampler = FrameSampler(len(dataset), shuffle, seed)
    own = torch.Generator().manual_seed(seed)  # for worker seeds: the process's random numbers stay as they are
    common: dict[str, Any] = {"num_workers": n_workers, "collate_fn": collate, "generator": own}
    if size < n_ranks and max_edges is None:
        raise ConfigError(
            "EQ1401",
            f"batch_size={size}: {n_ranks} processes need at least one frame each; "
            "raise batch_size or start fewer processes",
        )
    if max_edges is not None or n_ranks > 1:
        batches: Any = BatchSampler(sampler, size, drop_last=False)
        if max_edges is not None:
            batches = EdgeBatchSampler(dataset, max_edges, sampler)
        if n_ranks > 1:
            batches = SharedBatchSampler(batches, rank, n_ranks)
        return DataLoader(dataset, batch_sampler=batches, **common)
    return DataLoader(dataset, batch_size=size, sampler=sampler, **common)


def n_batches(loader: DataLoader) -> int:
    """Batches of an epoch; of the current one where batches have a largest number of edges and epochs differ."""
    batches: Any = loader.batch_sampler
    shared = isinstance(batches, SharedBatchSampler)
    edges = isinstance(batches.batches if shared else batches, EdgeBatchSampler)
    return sum(1 for _ in batches) if edges else len(loader)


def start_at(loader: DataLoader, epoch: int, batch: int) -> None:
    """Make the next pass over a loader begin at this batch of this epoch, where a stopped run continues."""
    set_epoch(loader, epoch)
    batches: Any = loader.batch_sampler
    n_ranks = 1
    if isinstance(batches, SharedBatchSampler):
        batches, n_ranks = batches.batches, batches.n_ranks
    if isinstance(batches, EdgeBatchSampler):
        batches.skip = batch * n_ranks
    else:
        batches.sampler.skip = batch * batches.batch_size


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Choose the order in which a loader made here gives its frames."""
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    sampler.set_epoch(epoch)


def to_structure(batch: Batch | FrameData) -> Structure:
    """A batch (or one frame) as the Structure that models and engines take."""
    index = getattr(batch, "batch", None)
    if index is None:
        index = batch.positions.new_zeros(batch.positions.shape[0], dtype=torch.int64)
    return Structure(batch=index, n_graphs=int(batch.cell.shape[0]), **{name: batch[name] for name in GEOMETRY})
