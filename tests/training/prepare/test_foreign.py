"""Foreign frames: what a fine-tuning forgets, and what replaying some of them changes."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from eqff import artifact
from eqff.errors import ConfigError
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

MODEL = ["model.n_layers=1", "model.l_max=1", "model.n_channels=4", "model.r_max=3.5"]
QUICK = ["training.kernels=reference", "training.report=false", "training.compile=false", "training.warmup_steps=1"]


def crystal(symbol: str, seed: int, labels: bool = True) -> Atoms:
    atoms = bulk(symbol, cubic=True)
    atoms.rattle(0.1, seed=seed)
    if labels:
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential that has learnt something about copper and gold."""
    folder = tmp_path_factory.mktemp("start")
    frames = [crystal(symbol, seed) for seed in range(6) for symbol in ("Cu", "Au")]
    ase.io.write(folder / "both.xyz", frames, format="extxyz")
    run = train(folder / "both.xyz", folder / "run", overrides=[*MODEL, *QUICK, "training.steps=60"])
    assert run.potential is not None
    return run.potential


def files(folder: Path, labels: bool = True) -> tuple[Path, Path]:
    ase.io.write(folder / "copper.xyz", [crystal("Cu", seed) for seed in range(10, 18)], format="extxyz")
    ase.io.write(folder / "gold.xyz", [crystal("Au", seed, labels) for seed in range(6)], format="extxyz")
    return folder / "copper.xyz", folder / "gold.xyz"


def test_errors_before_and_after_are_kept_and_said(
    start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, foreign = files(tmp_path)
    caplog.set_level("INFO")
    options = [f"init_from='{start}'", f"data.foreign='{foreign}'", "data.replay=2", "training.steps=6", *QUICK]
    run = train(own, tmp_path / "run", overrides=options)
    found = json.loads((run.folder / "forgotten.json").read_text())
    assert (found["frames"], found["labels"]) == (4, "the file")
    assert found["before"]["forces_mae_meV_A"] != found["after"]["forces_mae_meV_A"]
    assert run.potential is not None
    potential, errors = artifact.load(run.potential, accelerate="off"), []
    for atoms in (ase.io.read(foreign, index=k) for k in (1, 2, 3, 4)):  # 0 and 5 train
        (predicted,) = potential.predict([atoms])
        errors.append(np.abs(predicted.forces - atoms.get_forces()).mean())
    assert found["after"]["forces_mae_meV_A"] == pytest.approx(1000.0 * float(np.mean(errors)), rel=1e-3)
    header = artifact.inspect(run.potential)
    assert header["species"] == ["Cu", "Au"]
    assert header["training_data"]["foreign"]["replayed"] == 2
    assert "as it starts  forces" in caplog.text
    before = f"{found['before']['forces_mae_meV_A']:.2f} meV/Å"
    assert f"foreign: 4 frames of gold.xyz, labels of the file; as it starts: forces {before}" in caplog.text
    assert "replay: 2 more of them train, on forces and stress" in caplog.text
    split = json.loads((run.folder / "split.json").read_text())
    assert split["train"][-2:] == [8, 9]
    train(own, run.folder, resume=True, overrides=options)  # nothing is left to do, and nothing else has changed


def test_frames_without_labels_get_those_of_the_initial_weights(start: Path, tmp_path: Path) -> None:
    own, foreign = files(tmp_path, labels=False)
    config = read_config(own, [f"init_from='{start}'", f"data.foreign='{foreign}'", "data.replay=3", *QUICK])
    prepared = prepare(config)
    assert prepared.foreign is not None
    assert prepared.foreign.before.forces_mae == 0.0  # they agree with themselves
    assert prepared.foreign.before.stress_mae == 0.0
    (predicted,) = artifact.load(start, accelerate="off", dtype="float64").predict([ase.io.read(foreign, index=0)])
    replayed = prepared.frames[8]
    assert replayed.energy is None
    np.testing.assert_allclose(replayed.forces, predicted.forces, atol=2e-6)
    np.testing.assert_allclose(replayed.stress, predicted.stress, atol=1e-6)


def test_an_element_without_energies_keeps_the_reference_of_the_start(start: Path, tmp_path: Path) -> None:
    own, foreign = files(tmp_path)
    config = read_config(own, [f"init_from='{start}'", f"data.foreign='{foreign}'", *QUICK])
    theirs = artifact.inspect(start)
    before = dict(zip(theirs["species"], theirs["reference_energies"], strict=True))
    found = prepare(config).plan.model_config
    after = dict(zip(found.species, found.reference_energies, strict=True))
    assert after["Au"] == before["Au"]
    assert after["Cu"] != before["Cu"]


def test_what_does_not_go_together(start: Path, tmp_path: Path) -> None:
    own, foreign = files(tmp_path)
    ase.io.write(tmp_path / "silver.xyz", crystal("Ag", 0), format="extxyz")
    begin, gold = f"init_from='{start}'", f"data.foreign='{foreign}'"
    cases = [
        (["data.replay=3", begin], "EQ1213"),
        ([gold], "EQ1214"),
        ([begin, gold, "data.baseline='emt'"], "EQ1215"),
        ([begin, gold, "data.replay=6"], "EQ1216.*6 frames"),
        ([begin, f"data.foreign='{tmp_path / 'silver.xyz'}'"], "EQ1217.*does not know Ag"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            prepare(read_config(own, [*options, *QUICK]))
    with pytest.raises(ConfigError, match=r"EQ1075.*data.replay=-1"):
        read_config(own, ["data.replay=-1"])
    with pytest.raises(ConfigError, match=r"EQ1064.*data.foreign"):
        read_config(own, [f"data.foreign='{tmp_path / 'absent.xyz'}'"])
