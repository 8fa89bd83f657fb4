import pytest

from eqff import registry
from eqff.errors import ConfigError


def test_folders_are_the_registry():
    assert "nequip" in registry.names("models")
    assert {"md", "train", "export", "inspect", "doctor", "data"} <= set(registry.names("cli"))
    assert registry.load("models", "nequip").__name__ == "eqff.models.nequip"


def test_unknown_names_list_the_known():
    with pytest.raises(ConfigError, match=r"EQ1002.*'nequop'.*nequip"):
        registry.load("models", "nequop")
