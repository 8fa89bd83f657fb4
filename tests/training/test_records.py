"""Records in a run folder: the level of theory, and a structure to start dynamics from."""

import dataclasses
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from toys import SAMPLE

from eqff.data.splits import split_from_indices
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.records import write_records


@pytest.mark.parametrize(("told", "kept"), [("", "GFN2-xTB (tblite)"), ("PBE", "PBE")])
def test_level_of_theory_is_that_of_the_file_unless_the_recipe_states_one(
    told: str, kept: str, tmp_path: Path, smallest_recipe: str
) -> None:
    arrays = dict(np.load(SAMPLE)) | {"theory": np.array("GFN2-xTB (tblite)")}
    np.savez(tmp_path / "frames.npz", **arrays)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe.replace(str(SAMPLE), "frames.npz").replace('"GFN2-xTB"', f'"{told}"'))
    found = prepare(read_config(recipe, ['training.kernels="reference"']))
    write_records(tmp_path, found)
    assert json.loads((tmp_path / "model.json").read_text())["data"]["level_of_theory"] == kept


def test_the_structure_left_is_calm_and_has_atoms_enough(tmp_path: Path) -> None:
    """An isolated atom has no forces at all; positions and cell are as in the file."""
    crystals = [bulk("Si", cubic=True) for _ in range(4)]
    for atoms, force in zip(crystals, (3.0, 0.2, 1.0, 2.0), strict=True):
        atoms.rattle(0.05 * force)
        forces = np.zeros((8, 3))
        forces[3, 1] = -force
        atoms.calc = SinglePointCalculator(atoms, energy=-8.0 * force, forces=forces)
    alone = Atoms("Si", cell=[9.0] * 3, pbc=True)
    alone.calc = SinglePointCalculator(alone, energy=-1.0, forces=np.zeros((1, 3)))
    ase.io.write(tmp_path / "frames.extxyz", [alone, *crystals, crystals[0]])
    small = ["model.family=nequip", "model.n_layers=1", "model.n_channels=4", "model.l_max=1", "training.compile=false"]
    found = prepare(read_config(tmp_path / "frames.extxyz", [*small, "data.n_train=4", "data.n_validation=1"]))
    everything = split_from_indices(6, train=range(6))
    plan = dataclasses.replace(found.plan, split=everything)
    write_records(tmp_path, found._replace(plan=plan))
    left = ase.io.read(tmp_path / "structure.xyz")
    np.testing.assert_allclose(left.positions, crystals[1].positions, atol=1e-7)
    assert left.pbc.all()
    assert left.cell.array == pytest.approx(crystals[1].cell.array)
