"""eqff import, from reference files to potential files with the same energies; and everything refused."""

import json
from inspect import signature as inspect_signature

import numpy as np
import pytest
import torch
import typer
from ase import Atoms
from toys import GOLDEN
from typer.testing import CliRunner

import eqff
from eqff import exporter as export
from eqff import registry
from eqff.artifact import inspect
from eqff.errors import EqffError
from eqff.tasks.import_model import codes

FILES = [
    ("nequip", "nequip_mol_l1"),
    ("nequip", "nequip_mol_l2_parity"),
    ("nequip", "nequip062_mol_l2_parity"),
    ("equiformer", "equiformer_se3_l2"),
    ("esen", "esen_l2_m2_bessel"),
]
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden files are not at {GOLDEN}")


@pytest.fixture(autouse=True)
def setting(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(export, "prove_in_fresh_process", lambda path: None)


def run(*arguments):
    app = typer.Typer()
    app.command()(registry.load("cli", "import").command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@needs_golden
@pytest.mark.parametrize(("code", "name"), FILES)
def test_energies_of_the_written_file_are_the_reference_s(tmp_path, code, name):
    source, path = GOLDEN / f"{name}.npz", tmp_path / "model.eqff.pt"
    species = ["--species", "H,C,O"] if code == "equiformer" else []
    result = run(code, source, "-o", path, "--licence", "MIT", *species)
    assert result.exit_code == 0, result.output
    header, file = inspect(path), np.load(source)
    frame = Atoms(numbers=file["in/numbers"], positions=file["in/pos"])
    (computed,) = eqff.load(path).predict([frame])
    np.testing.assert_allclose(computed.energy, float(file["out/total_energy"].reshape(-1)[0]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(computed.forces, file["out/forces"], rtol=0, atol=1e-10)
    origin = header["training_data"]
    assert (origin["imported_from"], origin["source"], len(origin["source_sha256"])) == (code, f"{name}.npz", 64)
    assert code in origin["source_versions"] or "fairchem" in origin["source_versions"]
    assert (header["licence"], header["dtype"]) == ("MIT", "float64")


@needs_golden
def test_types_without_names_are_not_taken_silently(tmp_path):
    with np.load(GOLDEN / "nequip062_mol_l2_parity.npz") as file:
        arrays = {name: file[name] for name in file.files if name.startswith("w/") or name == "config"}
    np.savez(tmp_path / "bare.npz", **arrays)
    result = run("nequip", tmp_path / "bare.npz", "-o", tmp_path / "guessed.eqff.pt")
    assert "warning" in result.output
    assert "H He Li" in result.output
    result = run("nequip", tmp_path / "bare.npz", "-o", tmp_path / "named.eqff.pt", "--species", "H, C, O")
    assert "warning" not in result.output
    assert inspect(tmp_path / "named.eqff.pt")["species"] == ["H", "C", "O"]


def test_every_code_is_listed_and_keeps_the_contract():
    assert {"nequip", "equiformer", "esen"} <= set(codes())
    help_text = registry.load("cli", "import").command.__annotations__["code"].__metadata__[0].help
    for code in codes():
        importer = registry.load("importers", code)
        assert code in help_text
        assert importer.FAMILY in registry.names("models")
        assert list(inspect_signature(importer.convert).parameters) == ["foreign", "state"]
        assert not (hasattr(importer, "SPECIES_KEYS") and hasattr(importer, "SUBSET_KEY"))


def npz(path, config, **weights):
    np.savez(path, config=json.dumps(config), **{f"w/{name}": array for name, array in weights.items()})
    return path


WEIGHT = {"type_embed.embed_module.weight": np.zeros((1, 4))}


@pytest.mark.parametrize(
    ("id", "arguments", "config", "weights"),
    [
        ("EQ1190", ["mace"], {}, WEIGHT),
        ("EQ1191", ["nequip"], {"type_names": ["H"], "l_max": 1}, WEIGHT),  # no r_max
        ("EQ1196", ["nequip"], {"type_names": ["H"], "r_max": "four"}, WEIGHT),
        ("EQ1099", ["esen", "--species", "H"], {"cutoff": 3.0}, WEIGHT),
        ("EQ4302", ["nequip"], {"r_max": 4.0}, {"weight": np.zeros(3)}),
        ("EQ4140", ["nequip", "-o", "model.pt"], {"r_max": 4.0}, WEIGHT),
        ("EQ4923", ["nequip", "--card", "missing.md"], {"r_max": 4.0}, WEIGHT),
        ("EQ4350", ["nequip", "--config", "config.json", "missing.npz"], {}, None),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, id, arguments, config, weights):
    monkeypatch.chdir(tmp_path)
    source = [] if weights is None else [npz(tmp_path / "model.npz", config, **weights)]
    output = [] if "-o" in arguments else ["-o", "model.eqff.pt"]
    error = run(*arguments[:1], *source, *arguments[1:], *output).exception
    assert isinstance(error, EqffError), error
    assert error.id == id
    assert not (tmp_path / "model.eqff.pt").exists()


@needs_golden
def test_an_existing_file_is_not_overwritten(tmp_path):
    path = tmp_path / "model.eqff.pt"
    path.write_text("precious")
    result = run("nequip", GOLDEN / "nequip_mol_l1.npz", "-o", path)
    assert result.exception.id == "EQ4116"
    assert path.read_text() == "precious"
    assert run("nequip", GOLDEN / "nequip_mol_l1.npz", "-o", path, "--force").exit_code == 0
    assert inspect(path)["family"] == "nequip"


@needs_golden
def test_a_checkpoint_with_its_configuration_beside_it(tmp_path):
    with np.load(GOLDEN / "nequip_mol_l1.npz") as file:
        state = {name[2:]: torch.tensor(file[name]) for name in file.files if name.startswith("w/")}
        (tmp_path / "config.json").write_text(str(file["config"]))
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    path = tmp_path / "model.eqff.pt"
    result = run("nequip", tmp_path / "last.ckpt", "--config", tmp_path / "config.json", "-o", path)
    assert result.exit_code == 0, result.output
    assert inspect(path)["reference_energies"] == [-13.6, -1029.0, -2041.5]
