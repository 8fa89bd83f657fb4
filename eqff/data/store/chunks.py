"""Chunks of an HDF5 array that are not compressed, read past HDF5: it takes 12 µs to find and check one of 3 kB.

HDF5 tells where they lie; their Fletcher-32 checksums are compared here, for all of a batch together.
"""

from pathlib import Path

import h5py
import numpy as np

from eqff.data.store.journal import IndependentFile
from eqff.errors import DataError

CHECKSUM = 4  # bytes at the end of each chunk


class PlainChunks:
    """Rows of an array with the Fletcher-32 filter alone.

    Args:   dataset; raw: the file it lies in; path: for messages
    Raises: DataError EQ3072 if a chunk is missing or of another size
    """

    def __init__(self, dataset: h5py.Dataset, raw: IndependentFile, path: Path) -> None:
        self.raw, self.path, self.dtype = raw, path, dataset.dtype
        self.rows, *self.row_shape = dataset.chunks
        self.n_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
        self.offsets = np.full(-(-dataset.shape[0] // self.rows), -1, dtype=np.int64)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            number = chunk.chunk_offset[0] // self.rows
            if chunk.size == self.n_bytes + CHECKSUM and chunk.filter_mask == 0 and number < len(self.offsets):
                self.offsets[number] = chunk.byte_offset

        dataset.id.chunk_iter(note)
        if (self.offsets < 0).any():
            raise DataError("EQ3072", f"{path}: chunk {int(np.argmin(self.offsets))} is missing; write it again")

    def read(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Rows starts[k] to stops[k] - 1 for all k, one after the other.

        Raises: DataError EQ3072 if a checksum is wrong
        """
        counts = stops - starts
        rows = np.repeat(starts - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(counts.sum())
        needed, place = np.unique(rows // self.rows, return_inverse=True)
        content = np.empty((len(needed), self.n_bytes + CHECKSUM), dtype=np.uint8)
        for buffer, offset in zip(content, self.offsets[needed].tolist(), strict=True):
            self.raw.read_at(buffer, offset)
        data = content[:, : self.n_bytes]
        stated = np.ascontiguousarray(content[:, self.n_bytes :]).view("<u4")[:, 0]
        wrong = fletcher32(data) != stated
        if wrong.any():
            chunk = int(needed[np.argmax(wrong)])
            raise DataError("EQ3072", f"{self.path}: chunk {chunk} is damaged (checksum); write it again")
        values = data.view(self.dtype).reshape(len(needed), self.rows, *self.row_shape)
        return values[place.reshape(-1), rows % self.rows]


def fletcher32(data: np.ndarray) -> np.ndarray:
    """Checksums as HDF5 computes them, sums over big-endian 16-bit words modulo 65535.

    s1 = sum_i w_i,  s2 = sum_i (n - i) w_i  (i from 0), where a multiple of 65535 is 65535 unless all words are 0

    Args:    data [n_chunks, n_bytes] uint8, an even number of bytes
    Returns: [n_chunks] uint32, s2 * 65536 + s1
    """
    words = data.view(">u2").astype(np.float64)  # sums stay below 2^53 for chunks up to 700 kB
    n_words = words.shape[1]
    sums = words @ np.stack([np.ones(n_words), np.arange(n_words, 0, -1.0)], axis=1)  # [n_chunks, 2]
    folded = np.where(sums > 0, (sums - 1) % 65535 + 1, 0).astype(np.uint32)
    return (folded[:, 1] << 16) | folded[:, 0]
