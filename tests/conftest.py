"""Fixtures of more than one folder."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, and inherited by child processes: these systems are small, where threads only wait for each
# other, most of all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import torch

from eqff.data.published import official_split
from eqff.data.reading.npz import read_npz

hypothesis.settings.register_profile("eqff", deadline=None)  # machines stall; a wrong result is what must fail
hypothesis.settings.load_profile("eqff")


@pytest.fixture(scope="session", autouse=True)
def nothing_compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results must not depend on which potentials this user has compiled."""
    empty = tmp_path_factory.mktemp("compiled")
    patch = pytest.MonkeyPatch()
    patch.setattr("eqff.artifact.compiled.private_cache", lambda name: empty)
    yield
    patch.undo()


@pytest.fixture
def float64_default() -> Iterator[None]:
    """e3nn rounds the constants of its products to the default dtype when they are made; as an oracle it needs all."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def rmd17_ethanol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as rMD17 has it, of 20 frames; of its split, rows 7, 2 and 11 train, 5 and 0 test."""
    sample = read_npz(Path(__file__).parent / "data" / "files" / "ethanol_gfn2_20frames.npz", ["z", "R", "E", "F"])
    folder = tmp_path / "published"
    folder.mkdir()
    arrays = {
        "nuclear_charges": sample["z"],
        "coords": sample["R"],
        "energies": sample["E"][:, 0],
        "forces": sample["F"],
    }
    np.savez(folder / "rmd17_ethanol.npz", old_indices=np.arange(20), **arrays)
    every = official_split.fingerprints(arrays, "sample")
    np.savez(folder / "known.npz", ethanol_train=every[[7, 2, 11]], ethanol_test=every[[5, 0]])
    monkeypatch.setattr(official_split, "FINGERPRINTS", folder / "known.npz")
    return folder / "rmd17_ethanol.npz"


@pytest.fixture(scope="session")
def smallest_recipe() -> str:
    """A training run of seconds on the sample of ethanol, as TOML."""
    sample = Path(__file__).parent / "data" / "files" / "ethanol_gfn2_20frames.npz"
    return f"""
[data]
train = "{sample}"
energy_unit = "kcal/mol"
n_train = 16
n_validation = 4
level_of_theory = "GFN2-xTB"
[model]
family = "nequip"
l_max = 1
n_layers = 1
n_channels = 4
[training]
epochs = 1
"""
