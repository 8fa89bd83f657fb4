"""Which frames make the batches of an epoch: orders that a resumed run repeats, batches by edges, shares of ranks."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler
from torch_geometric.data import Dataset
from torch_geometric.loader import DynamicBatchSampler

from eqff.graph import grouped

COUNTED_TOGETHER = 1024  # frames whose edges are asked for at once


class FrameSampler(Sampler[int]):
    """Order of frames: a function of (seed, epoch) alone, so a resumed run draws what the first would have drawn.

    Args: n_frames; shuffle: False keeps the order; seed.  Lightning calls set_epoch before each epoch.
    Attributes: skip: frames to leave out at the beginning of the next pass, already seen before a run was stopped
    """

    def __init__(self, n_frames: int, shuffle: bool = False, seed: int = 0) -> None:
        self.skip = 0
        self.n_frames = n_frames
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, counted from 0."""
        self.epoch = epoch

    def order(self) -> list[int]:
        """The order of the current epoch."""
        if not self.shuffle:
            return list(range(self.n_frames))
        generator = torch.Generator()
        mixed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(2, np.uint32)
        generator.manual_seed((int(mixed[0]) << 31) ^ int(mixed[1]))
        return torch.randperm(self.n_frames, generator=generator).tolist()

    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        yield from self.order()[skip:]

    def __len__(self) -> int:
        return self.n_frames


class EdgeBatchSampler(DynamicBatchSampler):
    """Batches of at most max_edges edges, one frame at least, in the order of a FrameSampler.

    The number of batches differs from epoch to epoch, so len() is undefined (TypeError, as Lightning expects).
    """

    def __init__(self, dataset: Dataset, max_edges: int, sampler: FrameSampler) -> None:
        super().__init__(dataset, max_num=max_edges, mode="edge")
        self.sampler = sampler  # where Lightning looks for set_epoch
        self.skip = 0  # batches to leave out at the beginning of the next pass

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, counted from 0."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        yield from islice(self._batches(), skip, None)

    def _batches(self) -> Iterator[list[int]]:
        for batch in grouped(self._counted(), lambda counted: counted[1], self.max_num):
            yield [position for position, _ in batch]

    def _counted(self) -> Iterator[tuple[int, int]]:
        """Frames in order, with their numbers of edges."""
        order = self.sampler.order()
        for start in range(0, len(order), COUNTED_TOGETHER):
            group = order[start : start + COUNTED_TOGETHER]
            yield from zip(group, self.dataset.n_edges(group).tolist(), strict=True)

    def __len__(self) -> int:
        raise TypeError("the number of batches of at most max_edges edges is not known before they are made")


class SharedBatchSampler(Sampler[list[int]]):
    """What one of several processes takes of the batches that all of them draw.

    A batch of n frames is divided among them, each process taking at least one; of batches with a largest number of
    edges each process takes whole ones in turn.  A remainder that cannot be divided is left out of an epoch.
    """

    def __init__(self, batches: BatchSampler | EdgeBatchSampler, rank: int, n_ranks: int) -> None:
        self.batches, self.rank, self.n_ranks = batches, rank, n_ranks
        self.sampler: Any = batches.sampler  # where Lightning looks for set_epoch

    def __iter__(self) -> Iterator[list[int]]:
        if isinstance(self.batches, EdgeBatchSampler):
            together = []
            for batch in self.batches:
                together.append(batch)
                if len(together) == self.n_ranks:
                    yield together[self.rank]
                    together = []
        else:
            yield from (batch[self.rank :: self.n_ranks] for batch in self.batches if len(batch) >= self.n_ranks)

    def __len__(self) -> int:
        if isinstance(self.batches, EdgeBatchSampler):
            return len(self.batches)  # TypeError
        size = self.batches.batch_size
        remainder = len(self.sampler) % size
        return len(self.sampler) // size + (remainder >= self.n_ranks)
