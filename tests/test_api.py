"""The functions at the top of eqff: the same results from a path and from memory, and typed refusals."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import eqff
from eqff.config import to_mapping
from eqff.errors import ConfigError
from eqff.models import nequip

CONFIG = nequip.Config(species=("H", "C", "O"), r_max=4.0, l_max=1, n_layers=1, n_channels=4, radial_hidden=(4,))


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("api") / "toy.eqff.pt"
    eqff.export(nequip.Model(CONFIG), path, family="nequip", config=to_mapping(CONFIG))
    return str(path)


@pytest.fixture
def ethanols() -> list[Atoms]:
    made = [molecule("CH3CH2OH") for _ in range(3)]
    for seed, atoms in enumerate(made):
        atoms.rattle(0.05, seed=seed)
    return made


def test_predict_is_what_the_calculator_says(potential_file, ethanols, tmp_path):
    ase.io.write(tmp_path / "a.extxyz", ethanols)
    frames = eqff.read_frames(tmp_path / "a.extxyz")
    potential = eqff.load(potential_file)
    ways = [ethanols, frames, tmp_path / "a.extxyz", iter(ethanols)]
    for given, structures in [(potential_file, way) for way in ways] + [(potential, ethanols), (potential, frames)]:
        predictions = eqff.predict(given, structures)
        for atoms, prediction in zip(ethanols, predictions, strict=True):
            atoms.calc = eqff.EqffCalculator(potential_file)
            assert prediction.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
            np.testing.assert_allclose(prediction.forces, atoms.get_forces(), atol=1e-5)
    assert len(eqff.predict(potential, ethanols[0])) == 1


def test_predict_adds_the_baseline(potential_file, ethanols, monkeypatch):
    class Constant:
        def added(self, prediction, positions, numbers, cell, pbc, where):
            return prediction._replace(energy=prediction.energy + 100.0)

    plain = [prediction.energy for prediction in eqff.predict(potential_file, ethanols)]
    monkeypatch.setattr("eqff.api.baseline_of", lambda potential: Constant())
    sums = [prediction.energy for prediction in eqff.predict(potential_file, ethanols)]
    assert sums == [energy + 100.0 for energy in plain]


def test_relax_goes_downhill(potential_file, ethanols):
    before = ethanols[0].positions.copy()
    relaxed, course = eqff.relax(potential_file, ethanols[0], steps=5)
    assert course.energy_change < 0.0
    assert relaxed.get_potential_energy() == course.energy
    assert (ethanols[0].positions == before).all()
    with pytest.raises(ConfigError, match="EQ1701: structure: 3 structures, expected one"):
        eqff.relax(potential_file, ethanols)  # type: ignore[arg-type]


def test_evaluate_takes_files_and_frames(potential_file, ethanols, tmp_path):
    for atoms in ethanols:
        atoms.calc = eqff.EqffCalculator(potential_file)
        atoms.get_forces()
    ase.io.write(tmp_path / "a.extxyz", ethanols)
    of_file = eqff.evaluate(potential_file, tmp_path / "a.extxyz")
    of_frames = eqff.evaluate(eqff.load(potential_file), eqff.read_frames(tmp_path / "a.extxyz"))
    assert of_file.metrics == of_frames.metrics
    assert of_file.metrics["forces_mae_meV_A"] < 0.1
    with pytest.raises(ConfigError, match="EQ1700: energy_unit"):
        eqff.evaluate(potential_file, eqff.read_frames(tmp_path / "a.extxyz"), energy_unit="eV")


def test_export_asks_for_what_it_needs(tmp_path):
    with pytest.raises(ConfigError, match="EQ1702: family, config: expected both"):
        eqff.export(nequip.Model(CONFIG), tmp_path / "toy.eqff.pt")
    with pytest.raises(ConfigError, match="EQ1703: family, config"):
        eqff.export(tmp_path, tmp_path / "toy.eqff.pt", family="nequip")
    with pytest.raises(ConfigError, match="EQ1071"):
        eqff.export(tmp_path, tmp_path / "toy.eqff.pt")


def test_cards_are_short(potential_file, ethanols):
    lines = repr(eqff.load("ethanol-nequip", accelerate="off")).splitlines()
    assert [line.split()[0] for line in lines] == ["Potential", "species", "runs", "data", "errors"]
    assert lines[0].split()[1:] == ["ethanol-nequip", "(nequip)"]
    assert "H C O; r_max 5 Å" in lines[1]
    assert "TorchScript, float32 weights on cpu" in lines[2]
    assert "950 frames" in lines[3]
    assert "force MAE 3.4 meV/Å" in lines[4]
    toy = repr(eqff.load(potential_file)).splitlines()
    assert len(toy) == 5
    assert toy[4].split() == ["errors", "not", "stated"]
    (prediction,) = eqff.predict(potential_file, ethanols[0])
    assert "9 atoms" in repr(prediction)
    assert len(repr(prediction)) < 200
