"""The verbs eos, elastic and phonons from end to end, with silicon."""

import inspect
import json
from dataclasses import fields

import ase.io
import pytest
import torch
from ase.build import bulk, molecule
from typer.testing import CliRunner

from eqff import cli
from eqff.cli import elastic, eos, phonons
from eqff.tasks.elastic import ElasticConfig
from eqff.tasks.eos import EosConfig
from eqff.tasks.phonons import PhononsConfig


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ase.io.write("si.cif", bulk("Si"))
    ase.io.write("salt.cif", bulk("NaCl", "rocksalt", a=5.64))
    ase.io.write("water.xyz", molecule("H2O"))
    app, runner = cli.build(), CliRunner()
    options = ["--threads", str(torch.get_num_threads())]
    return lambda verb, *arguments: runner.invoke(app, [verb, "si-nequip", *map(str, arguments), *options])


def test_equation_of_state_in_words_and_files(run, tmp_path):
    result = run("eos", "si.cif", "--points", "7")
    assert result.exit_code == 0, result.output
    for word in ("Si2: equation of state, 7 volumes", "bulk modulus     88.", "volume           20.4"):
        assert word in result.output
    assert {path.name for path in (tmp_path / "eos").iterdir()} == {
        *("eos.csv", "eos.json", "eos.png", "provenance.json", "structure.extxyz", "structures.extxyz")
    }


def test_elastic_constants_in_words(run):
    result = run("elastic", "si.cif")
    assert result.exit_code == 0, result.output
    for word in ("xx   152.", "Fd-3m (227)", "stable, lowest eigenvalue", "Hill        87.9"):
        assert word in result.output


def test_a_stressed_crystal_has_a_warning(run):
    ase.io.write("pressed.cif", bulk("Si", a=5.3))
    result = run("elastic", "pressed.cif", "--no-relax", "--json")
    assert result.exit_code == 0, result.output
    assert "stress-strain coefficients under load" in result.stderr
    assert json.loads(result.stdout)["residual_stress_GPa"] > 5.0


def test_phonons_in_words_and_json(run, tmp_path):
    result = run("phonons", "si.cif", "--supercell", "2,2,2")
    assert result.exit_code == 0, result.output
    for word in ("supercell           2x2x2, 1 displacements", "imaginary modes     none", "THz"):
        assert word in result.output
    assert (tmp_path / "phonons" / "bands.png").stat().st_size > 10_000
    result = run("phonons", "si.cif", "--supercell", "2x2x2", "--force", "--json")
    content = json.loads(result.stdout)
    assert content["n_displacements"] == 1
    assert len(content["zone_centre_THz"]) == 6


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["eos", "water.xyz"], "EQ1270"),
        (["eos", "salt.cif"], "EQ2101"),
        (["eos", "si.cif", "--points", "3"], "EQ1274"),
        (["elastic", "si.cif", "-o", "."], "EQ1251"),
        (["phonons", "si.cif", "--supercell", "2,2"], "EQ1279"),
        (["phonons", "absent.cif"], "EQ3024"),
    ],
)
def test_refusals(run, arguments, id):
    result = run(*arguments)
    assert result.exit_code != 0
    assert id in str(result.exception)


@pytest.mark.parametrize(
    ("verb", "config"), [(eos, EosConfig), (elastic, ElasticConfig), (phonons, PhononsConfig)], ids=lambda x: x.__name__
)
def test_defaults_are_those_of_the_settings(verb, config):
    parameters = inspect.signature(verb.command).parameters
    names = {"points": "n_points"}
    defaults = {field.name: field.default for field in fields(config)}
    for name, parameter in parameters.items():
        if names.get(name, name) in defaults:
            assert parameter.default == defaults[names.get(name, name)], name
