import os

import numpy as np

from eqff.data.frame import Frame
from eqff.data.store.store import Store, write_store


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
