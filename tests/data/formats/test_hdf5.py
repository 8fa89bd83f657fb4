from pathlib import Path

from eqff.data.reading.read import Source
from eqff.data.store.store import write_store


def test_provenance_of_the_first_file_travels_along(tmp_path):
    source = Source(Path(__file__).parents[1] / "files" / "ethanol_gfn2_20frames.npz")
    write_store(tmp_path / "a.h5", source.frames, provenance=source.provenance)
    again = Source(tmp_path / "a.h5").provenance
    assert again["source_format"] == "hdf5"
    assert again["origin_source_sha256"] == source.sha256
    assert len(again["store_digest"]) == 64
