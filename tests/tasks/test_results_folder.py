"""Folders of results: refused where they would mix, or where no folder can be, before anything is computed."""

import json

import pytest
from ase.calculators.emt import EMT

import eqff
from eqff.errors import ConfigError
from eqff.tasks.results_folder import results_folder, write_texts


def test_a_folder_with_other_files(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="EQ1251"), results_folder(tmp_path, force=False):
        pass
    with results_folder(tmp_path, force=True):
        paths = write_texts(tmp_path, [("a/b.csv", "1\n")], EMT())
    assert [path.name for path in paths] == ["b.csv", "provenance.json"]
    assert json.loads(paths[1].read_text()) == {"eqff": eqff.__version__, "calculator": "EMT"}
    assert (tmp_path / "a" / "b.csv").read_text() == "1\n"
    assert (tmp_path / "note").read_text() == "mine"


def test_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below", "file/below/it"):
        with pytest.raises(ConfigError, match=r"EQ1254.*is a file"), results_folder(tmp_path / place, force=True):
            pass


def test_a_failure_leaves_no_new_folder(tmp_path):
    with pytest.raises(KeyError), results_folder(tmp_path / "new", force=False):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
