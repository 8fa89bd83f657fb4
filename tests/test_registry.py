import importlib.metadata
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType

import pytest

from eqff import registry
from eqff.errors import ConfigError


@pytest.fixture
def scans(monkeypatch):
    """Times the installed packages were looked through; an outsider has a model "other" and its own "nequip"."""
    counted = []
    installed = EntryPoints(
        [
            EntryPoint("other", "outsider", "eqff.models"),
            EntryPoint("nequip", "outsider", "eqff.models"),
            EntryPoint("verb", "outsider", "eqff.cli"),
        ]
    )
    monkeypatch.setitem(sys.modules, "outsider", ModuleType("outsider"))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda: counted.append(True) or installed)
    registry._entry_points.cache_clear()
    yield counted
    registry._entry_points.cache_clear()


def test_folders_are_the_registry():
    assert "nequip" in registry.names("models")
    assert {"md", "train", "export", "inspect", "doctor", "data"} <= set(registry.names("cli"))
    assert registry.load("models", "nequip").__name__ == "eqff.models.nequip"
    assert registry.load("cli", "import").__name__ == "eqff.cli.import_"


def test_outsiders_are_members(scans):
    assert "other" in registry.names("models")
    assert "verb" not in registry.names("models")
    assert registry.load("models", "other").__name__ == "outsider"


def test_a_built_in_name_needs_no_scan_and_cannot_be_taken_over(scans):
    assert registry.load("models", "nequip").__name__ == "eqff.models.nequip"
    assert registry.load("data.formats", "md17").__name__ == "eqff.data.formats.md17"
    assert scans == []


def test_installed_packages_are_scanned_once(scans):
    for family in ("models", "cli", "cli.data", "models"):
        registry.names(family)
    registry.load("models", "other")
    assert len(scans) == 1


def test_unknown_names_list_the_known(scans):
    with pytest.raises(ConfigError, match=r"EQ1002.*'nequop'.*nequip, other"):
        registry.load("models", "nequop")


def test_files_of_the_house_are_no_members():
    with pytest.raises(ConfigError, match="EQ1002"):
        registry.load("cli.data", "_reading")
