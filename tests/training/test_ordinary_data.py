"""Data as people have them: labels that some frames lack, isolated atoms, forces of zero, weights of frames."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from eqff import config as config_io
from eqff.engines.ase import EqffCalculator
from eqff.errors import EqffError
from eqff.training.config import RunConfig
from eqff.training.folder.metrics_file import read_metrics, score
from eqff.training.folder.trained import load_run
from eqff.training.plan import Kept
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.resume import kept, read_earlier
from eqff.training.run import train

SMALL = ["model.n_layers=1", "model.l_max=1", "model.n_channels=4", "model.r_max=3.5"]
QUICK = ["training.kernels=reference", "training.report=false", "training.compile=false"]
STEPS = ["training.steps=8", "training.warmup_steps=1"]


def labelled(atoms: Atoms, labels: str = "efs", **info: Any) -> Atoms:
    """By EMT: e energy, f forces, s stress."""
    atoms.calc = EMT()
    results: dict[str, Any] = {"energy": atoms.get_potential_energy()} if "e" in labels else {}
    results |= {"forces": atoms.get_forces()} if "f" in labels else {}
    results |= {"stress": atoms.get_stress()} if "s" in labels and atoms.pbc.all() else {}
    atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    atoms.info.update(info)
    return atoms


def crystal(seed: int, labels: str = "efs", **info: Any) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return labelled(atoms, labels, **info)


def alloy(seed: int) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[: 1 + seed % 3] = 79
    atoms.rattle(0.1, seed=seed)
    return labelled(atoms)


def atom(symbol: str, energy: float, **info: Any) -> Atoms:
    atoms = Atoms(symbol, info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def dimer(distance: float) -> Atoms:
    return labelled(Atoms("Cu2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, distance]]))


ISOLATED = {"config_type": "IsolatedAtom"}
SETS: dict[str, Callable[[], list[Atoms]]] = {
    "all forces zero": lambda: [labelled(bulk("Cu", cubic=True, a=a)) for a in np.linspace(3.4, 3.9, 10)],
    "all forces zero, one atom": lambda: [labelled(bulk("Cu", a=a)) for a in np.linspace(3.4, 3.9, 10)],
    "no spread of energies": lambda: [labelled(bulk("Cu", cubic=True), "ef") for _ in range(6)],
    "two frames": lambda: [crystal(0), crystal(1)],
    "only forces": lambda: [crystal(k, "f") for k in range(6)],
    "only energies": lambda: [crystal(k, "e") for k in range(6)],
    "forces of one frame": lambda: [crystal(k, "ef" if k == 2 else "e") for k in range(8)],
    "dimers, crystals, atom": lambda: [
        *(atom("Cu", 3.51, **ISOLATED), dimer(2.0), dimer(2.4)),
        *(crystal(k, "efs"[: 1 + k % 3]) for k in range(8)),
    ],
    "one of two elements alone": lambda: [atom("Cu", 3.5), *(alloy(k) for k in range(8))],
    "weights of zero": lambda: [crystal(k, config_weight=float(k % 2)) for k in range(8)],
    "frames without labels": lambda: [crystal(k, "efs" if k < 6 else "") for k in range(8)],
}


def written(folder: Path, frames: list[Atoms]) -> Path:
    path = folder / "frames.xyz"
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
@pytest.mark.parametrize("name", SETS)
def test_every_set_trains_and_leaves_a_best_model(name: str, optimizer: str, tmp_path: Path) -> None:
    path = written(tmp_path, SETS[name]())
    no_file = ["training.export_best=false", f"training.optimizer={optimizer}"]
    run = train(path, tmp_path / "run", overrides=[*SMALL, *QUICK, *STEPS, *no_file])
    rows = read_metrics(run.folder / "metrics.csv")
    assert rows
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    weights = load_run(run.folder).model.parameters()
    assert all(bool(torch.isfinite(weight).all()) for weight in weights)


@pytest.mark.parametrize("family", ["nequip", "escn"])  # alone, an atom of NequIP has no energy, one of eSCN has
def test_the_potential_gives_an_isolated_atom_its_energy(family: str, tmp_path: Path) -> None:
    frames = [atom("Cu", 3.51, **ISOLATED), *(crystal(k) for k in range(6)), alloy(1), atom("Au", -7.25)]
    path = written(tmp_path, frames)
    smallest = [*SMALL, f"model.family={family}", *(["model.m_max=1"] if family == "escn" else [])]
    run = train(path, tmp_path / "run", overrides=[*smallest, *QUICK, *STEPS])
    assert run.potential is not None
    for symbol, energy in (("Cu", 3.51), ("Au", -7.25)):
        alone = Atoms(symbol)
        alone.calc = EqffCalculator(run.potential)
        assert alone.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    split = json.loads((run.folder / "split.json").read_text())
    assert {0, 8} <= set(split["train"])
    record = json.loads((run.folder / "model.json").read_text())
    assert record["data"]["isolated_atoms_eV"] == {"Cu": 3.51, "Au": -7.25}


def test_isolated_atoms_never_validate(tmp_path: Path) -> None:
    path = written(tmp_path, [*(crystal(k) for k in range(6)), atom("Cu", 3.51)])
    for seed in range(5):
        plan = prepare(read_config(path, [*SMALL, *QUICK, f"data.split_seed={seed}"])).plan
        assert plan.split.train[-1] == 6
        assert 6 not in [*plan.batched.train, *plan.split.validation]
    given = {"train": [0, 1, 2, 3], "validation": [4, 6], "test": [5]}
    about = {"format": "eqff-split-1", "n_frames": 7, "seed": None, "sha256": None}
    (tmp_path / "split.json").write_text(json.dumps(about | given))
    plan = prepare(read_config(path, [*SMALL, *QUICK, f"data.split={tmp_path / 'split.json'}"])).plan
    assert (plan.split.train.tolist(), plan.split.validation.tolist()) == ([0, 1, 2, 3, 6], [4])
    assert "isolated atoms train, against data.split: frames 6" in plan.sentences


def test_a_line_for_each_label_says_how_many_frames_train_on_it(tmp_path: Path) -> None:
    path = written(tmp_path, [crystal(k, "efs"[: 1 + k % 3], config_weight=2.0) for k in range(6)])
    plan = prepare(read_config(path, [*SMALL, *QUICK, "data.n_train=5", "data.n_validation=1"])).plan
    shown = "\n".join(plan.sentences)
    assert "energy: 6 of 6 frames, trained on (training.loss.energy_per_atom = 1 to 100)" in shown
    assert "forces: 4 of 6 frames, trained on (training.loss.forces = 1)" in shown
    assert "stress: 2 of 6 frames, trained on (training.loss.stress = 3)" in shown
    assert "weights: config_weight of the file, 2 to 2, multiplies the loss" in shown
    assert (plan.labels, plan.loss.stress) == (("energy", "forces", "stress"), 3.0)
    plan = prepare(read_config(path, [*SMALL, *QUICK, "training.loss.stress=0"])).plan
    assert "stress: 2 of 6 frames, not trained on because training.loss.stress = 0" in "\n".join(plan.sentences)
    assert plan.labels == ("energy", "forces")


def test_without_a_stress_none_is_trained_on(tmp_path: Path) -> None:
    path = written(tmp_path, [crystal(k, "e") for k in range(6)])
    plan = prepare(read_config(path, [*SMALL, *QUICK])).plan
    assert (plan.labels, plan.loss.stress) == (("energy",), 0.0)
    assert "stress: none of 6 frames has it" in plan.sentences
    assert "no training frame has forces" in plan.warnings[0]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (lambda: [crystal(k, "") for k in range(4)], "EQ3880.*energy in 0.*forces in 0"),
        (lambda: [crystal(k, config_weight=0.0) for k in range(4)], "EQ3882"),
        (lambda: [crystal(k, config_weight=-1.0) for k in range(4)], "EQ3881.*frame 0"),
        (lambda: [atom("Cu", 3.5), atom("Au", 3.0)], "EQ3883"),
        (lambda: [atom("Cu", 3.5), atom("Cu", 2.0), crystal(0), crystal(1)], "EQ3884"),
    ],
)
def test_what_cannot_be_trained_is_refused(frames: Callable[[], list[Atoms]], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, frames())
    with pytest.raises(EqffError, match=message):
        prepare(read_config(path, [*SMALL, *QUICK]))


def test_a_run_begun_without_stress_and_isolated_atoms_is_resumed_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, [atom("Cu", 3.51), *(crystal(k) for k in range(6))])
    config = read_config(path, [*SMALL, *QUICK, "training.steps=8"])
    mapping = config_io.to_mapping(config)
    mapping["training"]["loss"]["stress"] = 0.0  # as an older config.toml has it
    (tmp_path / "config.toml").write_text(config_io.to_toml(config_io.from_mapping(RunConfig, mapping, where="old")))
    (tmp_path / "plan.json").write_text(json.dumps({"decided": {"training.epochs": 4}}))
    old = kept(read_earlier(tmp_path), config)
    assert old == Kept(epochs=4, stress=0.0, isolated=False)
    plan = prepare(config, kept=old).plan
    assert (plan.loss.stress, plan.isolated.tolist(), plan.statistics.isolated_atoms) == (0.0, [], {})
    assert kept(None, config) == Kept()


@pytest.mark.parametrize("name", ["dimers, crystals, atom", "only energies"])
def test_a_resumed_run_is_the_run_to_the_bit(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, SETS[name]())
    settings = [*SMALL, *QUICK, "training.export_best=false", "training.steps=0", "training.checkpoint_every=1"]
    settings += ["training.final_learning_rate=0.015", "training.loss.final_energy_per_atom=1.0"]  # no schedule
    settings += ["training.warmup_steps=0"]
    whole = train(path, tmp_path / "whole", overrides=[*settings, "training.epochs=4"])
    train(path, tmp_path / "parts", overrides=[*settings, "training.epochs=2"])
    parts = train(path, tmp_path / "parts", resume=True, overrides=[*settings, "training.epochs=4"])
    one, other = (torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, parts))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_rows_are_compared_by_forces_and_without_them_by_the_loss() -> None:
    nan = float("nan")
    better: list[tuple[dict[str, float], dict[str, float]]] = [
        ({"forces_mae_meV_A": 3.0, "validation_loss": 9.0}, {"forces_mae_meV_A": 3.1, "validation_loss": 1.0}),
        ({"forces_mae_meV_A": 0.002, "validation_loss": 1.0}, {"forces_mae_meV_A": 0.001, "validation_loss": 2.0}),
        ({"validation_loss": 1.0}, {"validation_loss": 2.0}),
        ({"forces_mae_meV_A": 3.0, "validation_loss": 1.0}, {"forces_mae_meV_A": nan, "validation_loss": 0.5}),
        ({"validation_loss": 1.0}, {}),
    ]
    assert all(score(one) < score(other) for one, other in better)
