"""A bare name never means a file of the working directory."""

import os

import pytest

from eqff import artifact
from eqff.artifact import lookup
from eqff.artifact.lookup import potential_name
from eqff.errors import ConfigError, PotentialError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders in which potentials are looked for, in this order, each with a potential `same`; cwd is another one."""
    listed, data = tmp_path / "listed", tmp_path / "data"
    checkout = tmp_path / "checkout"
    monkeypatch.setattr(lookup, "PACKAGE", checkout / "eqff")
    monkeypatch.setenv("EQFF_POTENTIALS", str(listed))
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text("")
    folders = [listed, checkout / "eqff" / "_potentials", data / "eqff" / "potentials", checkout / "potentials"]
    files = [folder / "same" / "same.eqff.pt" for folder in folders]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return files


def test_order_of_places(places):
    for file in places:
        assert artifact.find("same") == file
        file.unlink()
    with pytest.raises(PotentialError, match="EQ4102"):
        artifact.find("same")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_the_working_directory_shadows_nothing(places, tmp_path, kind):
    planted = tmp_path / "work" / "same"
    if kind == "file":
        planted.write_bytes(b"planted")
    elif kind == "link":
        planted.symlink_to(places[1])
    else:
        (planted / "same").mkdir(parents=True)
        (planted / "same.eqff.pt").write_bytes(b"planted")
    (tmp_path / "work" / "same.eqff.pt").write_bytes(b"planted")
    assert artifact.find("same") == places[0]


@pytest.mark.parametrize("file", ["mine", "mine.eqff.pt", "model.pt"])
def test_an_unknown_name_hints_at_the_file_here(places, tmp_path, file):
    (tmp_path / "work" / file).write_bytes(b"")
    name = file.removesuffix(".eqff.pt")
    with pytest.raises(PotentialError, match="EQ410") as caught:
        artifact.find(name)
    assert f"write ./{file}" in caught.value.message
    assert artifact.find(f"./{file}").read_bytes() == b""


def test_unknown_names_list_close_matches(places):
    with pytest.raises(PotentialError, match=r"did you mean 'same'\?"):
        artifact.find("sane")


def test_suffix_and_separator_mean_a_path(places, tmp_path):
    (tmp_path / "work" / "same.eqff.pt").write_bytes(b"mine")
    assert artifact.find("same.eqff.pt").read_bytes() == b"mine"
    assert artifact.find(f".{os.sep}same.eqff.pt").read_bytes() == b"mine"
    with pytest.raises(PotentialError, match="EQ4101"):
        artifact.find("./same")


@pytest.mark.parametrize("name", ["a\0b", "a/" + 300 * "x", "\0.eqff.pt", "x" * 5000, "\ud800", "a\nb"])
def test_names_that_no_file_can_have(places, name):
    with pytest.raises(PotentialError, match="EQ410"):
        artifact.find(name)


def test_a_relative_folder_of_data_is_refused(places, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    with pytest.raises(ConfigError, match="EQ1501"):
        artifact.find("same")


def test_the_best_potential_of_a_run_is_called_like_the_run(tmp_path, monkeypatch):
    run = tmp_path / "ethanol-small"
    run.mkdir()
    assert potential_name(run / "best.eqff.pt") == "best"  # a lone file
    (run / "model.json").touch()
    assert potential_name(run / "best.eqff.pt") == "ethanol-small"
    monkeypatch.chdir(run)
    assert potential_name("best.eqff.pt") == "ethanol-small"
    assert potential_name("other.eqff.pt") == "other"
    assert potential_name("si-nequip") == "si-nequip"
