import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from toys import SAMPLE
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.published import catalogue
from eqff.data.published.catalogue import DATA_SETS
from eqff.data.reading.npz import npz_names, read_npz
from eqff.data.reading.read import read_frames
from eqff.errors import ConfigError, DataError


def run(*arguments) -> str:
    result = CliRunner().invoke(app, ["get", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_without_a_name_it_lists():
    lines = run().splitlines()
    assert len(lines) == len(DATA_SETS)
    assert any(line.startswith("3bpa ") and "licence: MIT" in line for line in lines)
    rows = json.loads(run("--json"))
    assert rows["rmd17-ethanol"]["licence"] == "CC0 1.0"
    assert rows["rmd17-ethanol"]["files"] == ["rmd17_ethanol.npz"]


def test_a_file_from_a_stick(tmp_path):
    output = run("md17-ethanol", "-o", tmp_path / "data", "--from-file", SAMPLE)
    assert "licence  not stated" in output
    assert "cite     Chmiela et al., Sci. Adv. 3" in output
    assert "sha256" in output
    assert "--energy-unit kcal/mol" in output
    target = tmp_path / "data" / "md17_ethanol.npz"
    assert len(read_frames(target)) == 20
    assert json.loads((tmp_path / "data" / "md17_ethanol.npz.source.json").read_text())["data_set"] == "md17-ethanol"
    found = json.loads(run("md17-ethanol", "-o", tmp_path / "data", "--json"))  # there already: no network needed
    assert found["files"][0]["new"] is False
    assert found["data"] == [str(target)]


def test_an_archive_is_unpacked(tmp_path):
    np.savetxt(tmp_path / "index_train_01.csv", [3, 1], fmt="%d")
    with tarfile.open(tmp_path / "rmd17.tar.bz2", "w:bz2") as tar:
        tar.add(SAMPLE, "rmd17/npz_data/rmd17_ethanol.npz")
        tar.add(tmp_path / "index_train_01.csv", "rmd17/splits/index_train_01.csv")
    output = run("rmd17", "-o", tmp_path / "data", "--from-file", tmp_path / "rmd17.tar.bz2")
    assert (tmp_path / "data" / "rmd17_ethanol.npz").read_bytes() == SAMPLE.read_bytes()
    assert (tmp_path / "data" / "index_train_01.csv").read_text().split() == ["3", "1"]
    assert "data     " in output
    kept = json.loads(run("rmd17", "-o", tmp_path / "data", "--no-unpack", "--json"))
    assert kept["data"] == [str(tmp_path / "data" / "rmd17.tar.bz2")]


@pytest.mark.parametrize("archived", [False, True])
def test_the_official_split_is_cut_out(archived, tmp_path, rmd17_ethanol):
    source, name = rmd17_ethanol, "rmd17-ethanol"
    if archived:
        source, name = tmp_path / "rmd17.tar.bz2", "rmd17"
        with tarfile.open(source, "w:bz2") as tar:
            tar.add(rmd17_ethanol, "rmd17/npz_data/rmd17_ethanol.npz")
    run(name, "-o", tmp_path / "data", "--from-file", source, "--official-split")
    found = json.loads(run(name, "-o", tmp_path / "data", "--official-split", "--json"))["data"]
    assert [Path(path).name for path in found] == [
        "rmd17_ethanol.npz", "rmd17_ethanol_train_01.npz", "rmd17_ethanol_test_01.npz",
    ]  # fmt: skip
    before = Path(found[1]).stat().st_mtime_ns
    run(name, "-o", tmp_path / "data", "--official-split")
    assert Path(found[1]).stat().st_mtime_ns == before  # there already
    whole, train, test = (read_npz(path, ["coords", "energies"]) for path in found)
    assert np.array_equal(train["coords"], whole["coords"][[7, 2, 11]])
    assert np.array_equal(test["energies"], whole["energies"][[5, 0]])


def test_some_files_of_a_set(tmp_path, monkeypatch):
    shutil.copy(SAMPLE, tmp_path / "test_300K.xyz")
    found = json.loads(run("3bpa", "-o", tmp_path / "data", "--from-file", tmp_path / "test_300K.xyz", "--json"))
    assert [Path(row["path"]).name for row in found["files"]] == ["test_300K.xyz"]
    assert catalogue.DATA_SETS["3bpa"].licence == found["licence"]


def test_a_file_of_the_users_is_not_replaced_by_a_part(tmp_path, rmd17_ethanol):
    own = tmp_path / "rmd17_ethanol_train_01.npz"
    np.savez(own, **read_npz(rmd17_ethanol, npz_names(rmd17_ethanol)))
    arguments = ["get", "rmd17-ethanol", "-o", str(tmp_path), "--from-file", str(rmd17_ethanol), "--official-split"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, DataError)
    assert result.exception.id == "EQ3070"
    assert len(read_npz(own, ["energies"])["energies"]) == 20
    run(*arguments[1:], "--force")
    assert len(read_npz(own, ["energies"])["energies"]) == 3


@pytest.mark.parametrize(
    ("arguments", "id", "text"),
    [
        (["rmd17-ethanl"], "EQ1947", "did you mean rmd17-ethanol"),
        (["zzz"], "EQ1947", "lists them"),
        (["3bpa", "--from-file", "a.xyz"], "EQ1948", "is no file of 3bpa; choose from train_300K.xyz"),
        (["md17-ethanol", "--official-split"], "EQ1949", "not known of md17-ethanol"),
        (["rmd17-paracetamol", "--official-split"], "EQ1949", "not known of rmd17-paracetamol"),
        (["rmd17", "--official-split", "--no-unpack"], "EQ1950", "leave --no-unpack away"),
    ],
)
def test_what_is_refused(arguments, id, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["get", *arguments])
    assert isinstance(result.exception, ConfigError), result.output
    assert result.exception.id == id
    assert text in result.exception.message
    assert not list(tmp_path.iterdir())
