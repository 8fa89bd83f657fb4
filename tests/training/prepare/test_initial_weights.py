"""Weights to begin a training with: where they come from, what is taken, and what is said about the rest."""

import dataclasses
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from eqff import config as config_io
from eqff import exporter as export
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, EqffError, PotentialError
from eqff.models import nequip, tfn
from eqff.training.prepare.initial_weights import (
    Start,
    architecture,
    initialise,
    read_start,
    species_axes,
    starting_numbers,
)
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

SMALL = nequip.Config(species=("H", "C", "O"), r_max=4.0, l_max=1, n_layers=2, n_channels=4, avg_num_neighbors=3.0)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def start_of(config: nequip.Config = SMALL, seed: int = 5) -> Start:
    model = nequip.Model(dataclasses.replace(config, seed=seed))
    return Start(Path("x"), "nequip", config_io.to_mapping(config), weights_of(model))


def test_everything_is_taken_where_everything_fits() -> None:
    start = start_of()
    fresh = nequip.Model(SMALL)
    taken = initialise(fresh, "nequip", SMALL, start)
    assert taken.new == taken.unused == taken.partly == []
    assert taken.report() == f"{len(taken.copied)} of {len(taken.copied)} weights taken"
    expected = start.weights
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(fresh).items())


def test_rows_of_species_go_to_the_same_element() -> None:
    """Another order of species, one that is new and one that is gone; the rest of the network is the same."""
    start = start_of()
    config = dataclasses.replace(SMALL, species=("O", "H", "N"))
    fresh = nequip.Model(config)
    before = weights_of(fresh)
    taken = initialise(fresh, "nequip", config, start)
    after, theirs = weights_of(fresh), start.weights
    per_species = {name for name in after if name == "embedding" or "self_connection" in name}
    assert set(taken.partly) == per_species == set(species_axes("nequip", config))
    for name, value in after.items():
        if name in per_species:
            assert torch.equal(value[0], theirs[name][2])
            assert torch.equal(value[1], theirs[name][0])
            assert torch.equal(value[2], before[name][2])  # nitrogen is as it was initialised
        else:
            assert torch.equal(value, theirs[name])
    assert "known species only: embedding" in taken.report()


def test_what_does_not_fit_is_said() -> None:
    start = start_of()
    config = dataclasses.replace(SMALL, readout_hidden=(8,))
    fresh = nequip.Model(config)
    before = weights_of(fresh)
    taken = initialise(fresh, "nequip", config, start)
    assert "readout_layers.0.weights.1" in taken.new
    assert all(torch.equal(fresh.get_parameter(name), before[name]) for name in taken.new)
    assert "layers.0.radial.weights.0" in taken.copied
    assert "not taken, as initialised: " in taken.report()
    assert "in the start and not used: " in taken.report()


def test_a_start_of_another_architecture_is_refused() -> None:
    """Fewer than half of the numbers fit; what differs is named, and where it does not matter it is not."""
    start = start_of(dataclasses.replace(SMALL, energy_scale=2.0))
    config = dataclasses.replace(SMALL, species=("O", "N"), n_channels=8, l_max=2, avg_num_neighbors=9.0)
    fresh = nequip.Model(config)
    with pytest.raises(ConfigError) as error:
        initialise(fresh, "nequip", config, start)
    assert error.value.id == "EQ1195"
    assert "different are model.l_max=2 (there 1), model.n_channels=8 (there 4): write what is there" in str(
        error.value
    )
    assert "species" not in error.value.message


def test_the_border_is_half_of_the_numbers() -> None:
    """Of a model of 3 layers; and rows of unknown species are no reason to refuse."""
    config = dataclasses.replace(SMALL, n_layers=3)
    model = nequip.Model(config)
    everything = weights_of(model)
    start = start_of(config)
    n_weights, taken, given = sum(value.numel() for value in everything.values()), 0, {}
    for name, value in sorted(everything.items(), key=lambda item: item[1].numel()):
        given[name], taken = value, taken + value.numel()
        if 2 * taken >= n_weights:
            break
    assert set(initialise(model, "nequip", config, start._replace(weights=given)).copied) == set(given)
    given.pop(name)
    with pytest.raises(ConfigError, match=rf"EQ1195.*only {taken - value.numel()} of {n_weights} weights"):
        initialise(model, "nequip", config, start._replace(weights=given))
    many = dataclasses.replace(config, species=("H", "He", "Li", "Be", "B", "N", "F", "Ne"))
    assert initialise(nequip.Model(many), "nequip", many, start._replace(weights=everything)).new == []


def test_numbers_the_weights_were_made_for() -> None:
    start = start_of(dataclasses.replace(SMALL, energy_scale=(1.0, 2.0, 3.0)))
    assert starting_numbers(start, ["H", "C", "O"]) == {"avg_num_neighbors": 3.0, "energy_scale": [1.0, 2.0, 3.0]}
    assert starting_numbers(start, ["O", "N", "H"]) == {"avg_num_neighbors": 3.0, "energy_scale": [3.0, 2.0, 1.0]}


def test_a_run_on_fewer_elements_begins_with_the_forces_of_the_start(tmp_path: Path) -> None:
    """Scales of each element go along: forces of the first model are those of the potential."""
    settings = dataclasses.replace(SMALL, species=("H", "C", "N", "O"), energy_scale=(1.5, 2.5, 9.0, 3.5), seed=5)
    start = nequip.Model(settings).to(torch.float64)
    export.export(start, "nequip", config_io.to_mapping(settings), tmp_path / "start.eqff.pt")
    frames = []
    for seed in range(6):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EqffCalculator(tmp_path / "start.eqff.pt")
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(tmp_path / "frames.extxyz", frames)
    options = [f"init_from='{tmp_path / 'start.eqff.pt'}'", "training.kernels=reference", "training.compile=false"]
    quick = ["training.epochs=1", "training.report=false", "training.learning_rate=1e-9", "training.export_best=false"]
    run = train(tmp_path / "frames.extxyz", tmp_path / "run", overrides=[*options, *quick])
    assert run.best["forces_mae_meV_A"] < 1e-2
    assert run.best["energy_mae_meV"] < 1e-1


def test_another_family_and_strangers_are_refused() -> None:
    start = start_of()
    config = tfn.Config(species=("H",))
    with pytest.raises(ConfigError, match="EQ1194"):
        initialise(tfn.Model(config), "tfn", config, start)
    with pytest.raises(ConfigError, match="EQ1195"):
        initialise(tfn.Model(config), "tfn", config, start._replace(family="", config={}, weights={"w": torch.ones(1)}))


def test_files_that_are_no_start(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("x")
    (tmp_path / "data.npz").write_text("x")
    cases: list[tuple[str, type[EqffError], str]] = [
        ("text.ckpt", PotentialError, "EQ4312"),
        ("data.npz", ConfigError, "EQ1198"),
        (".", ConfigError, "EQ1071"),
        ("no-such-potential", PotentialError, "EQ4102"),
    ]
    for name, kind, id in cases:
        with pytest.raises(kind, match=id):
            read_start(name if id == "EQ4102" else tmp_path / name)


def test_a_run_starts_where_another_one_ended(
    smallest_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From its folder, its checkpoint and its potential; with numbers of the data it was trained on."""
    monkeypatch.setattr(export, "prove_in_fresh_process", lambda path: None)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe)
    first = train(recipe, tmp_path / "first", overrides=["training.export_best=true"]).folder
    best = first / "best.eqff.pt"
    caplog.clear()
    for start in (first, first / "checkpoints" / "last.ckpt", best):
        config = read_config(recipe, [f"init_from='{start}'", "data.n_train=8", "training.kernels=reference"])
        assert config.init_from == str(start)
        prepared = prepare(config)
        expected = read_start(start).weights
        assert architecture(start) == (read_start(start).family, read_start(start).config)
        assert all(torch.equal(value, expected[name]) for name, value in weights_of(prepared.model).items())
        scale = read_start(first).config["energy_scale"]
        assert prepared.plan.model_config.energy_scale == scale != prepared.plan.statistics.force_rms
        assert prepared.plan.warnings == ()  # few frames are enough for a start


def test_a_start_beside_the_recipe_is_found(smallest_recipe: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('init_from = "last.ckpt"\n' + smallest_recipe)
    (tmp_path / "last.ckpt").write_text("")
    assert read_config(tmp_path / "recipe.toml").init_from == str(tmp_path / "last.ckpt")
    config = read_config(tmp_path / "recipe.toml", ["init_from=ethanol-nequip"])
    assert config.init_from == "ethanol-nequip"  # the name of a potential stays a name


def test_reference_energies_are_fitted_beside_the_energies_of_the_start(tmp_path: Path) -> None:
    """Weights whose energies are far from 0 (of cohesion) begin near the labels, and not that far above or below."""
    settings = dataclasses.replace(SMALL, energy_scale=3.0, reference_energies=(-13.0, -1000.0, -2000.0), seed=5)
    start = nequip.Model(settings).to(torch.float64)
    export.export(start, "nequip", config_io.to_mapping(settings), tmp_path / "start.eqff.pt")
    atoms = molecule("CH3CH2OH")
    frames = []
    calculator = EqffCalculator(tmp_path / "start.eqff.pt")
    for seed in range(12):
        moved = atoms.copy()
        moved.rattle(0.1, seed=seed)
        moved.calc = calculator
        results = {"energy": moved.get_potential_energy() + 7.0, "forces": moved.get_forces()}
        moved.calc = SinglePointCalculator(moved, **results)
        frames.append(moved)
    write(tmp_path / "frames.extxyz", frames)
    data = f'[data]\ntrain = "{tmp_path / "frames.extxyz"}"\nn_validation = 2\nn_train = 10\n'
    model = '[model]\nfamily = "nequip"\nr_max = 4.0\nl_max = 1\nn_layers = 2\nn_channels = 4\n'
    start_from = f'init_from = "{tmp_path / "start.eqff.pt"}"\n'
    (tmp_path / "recipe.toml").write_text(f"{start_from}{data}{model}[training]\nepochs = 1\n")
    prepared = prepare(read_config(tmp_path / "recipe.toml", ()))
    found = prepared.plan.model_config.reference_energies
    counts = (6, 2, 1)  # H C O
    expected = sum(n * e for n, e in zip(counts, settings.reference_energies, strict=True)) + 7.0
    assert sum(n * e for n, e in zip(counts, found, strict=True)) == pytest.approx(expected, abs=1e-4)
