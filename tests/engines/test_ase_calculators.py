import builtins
import sys

import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from eqff.engines.ase.calculators import calculator_maker
from eqff.errors import ConfigError, PotentialError, ResourceError


def test_emt():
    maker = calculator_maker("EMT")
    assert isinstance(maker(), EMT)
    assert maker() is not maker()
    assert "EMT" in maker.level_of_theory


def test_a_shipped_potential():
    maker = calculator_maker("ethanol-nequip")
    atoms = molecule("CH3CH2OH")
    atoms.calc = maker()
    assert atoms.get_potential_energy() < -4000.0
    assert "PBE" in maker.level_of_theory


def test_a_function_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_calculators.py").write_text(
        "from ase.calculators.emt import EMT\ndef make(): return EMT()\nodd = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(calculator_maker("my_calculators:make")(), EMT)
    wrong = {"my_calculators:absent": "EQ1926", "no_such_module:make": "EQ1926", "my_calculators:odd": "EQ1927"}
    for name, id in wrong.items():
        with pytest.raises(ConfigError, match=id):
            calculator_maker(name)
    sys.modules.pop("my_calculators")


def test_tblite_is_named_where_it_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("tblite"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(ResourceError, match=r"EQ6911.*eqff\[labels\]"):
        calculator_maker("tblite:GFN2-xTB")
    with pytest.raises(ConfigError, match=r"EQ1959.*GFN2-xTB"):
        calculator_maker("tblite:GFN7")


def test_no_such_potential():
    with pytest.raises(PotentialError):
        calculator_maker("no-such-potential")
