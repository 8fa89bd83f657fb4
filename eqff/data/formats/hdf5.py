"""eqff's own HDF5 store as a format: see eqff/data/store/store.py."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.data.store.store import Store, fill_store


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.  Raises: DataError for a damaged or foreign file, or an option that contradicts the store"""
    units(path, options)
    with Store(path) as store:
        yield from store.iterate((options or ReadOptions()).first)


def count(path: str | Path) -> int:
    """Number of frames."""
    with Store(path) as store:
        return len(store)


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """eV and Å, always."""
    options = options or ReadOptions()
    return decide_units(str(path), energy=(options.energy_unit, "eV", None), length=(options.length_unit, "Å", None))


def provenance(path: str | Path) -> dict[str, str]:
    """Where the store's frames came from, and its digest, which `Store.verify` compares with the content."""
    with Store(path) as store:
        return {**{f"origin_{name}": value for name, value in store.provenance.items()}, "store_digest": store.digest}


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write a store."""
    fill_store(Path(path), frames, str(path), provenance or {})


FORMAT = Format(
    summary="eqff's own store, HDF5",
    suffixes=(".h5", ".hdf5"),
    read=read,
    units=units,
    write=write,
    provenance=provenance,
    count=count,
    skips=True,
)
