import numpy as np
import pytest
from ase.data import chemical_symbols

from eqff.elements import SYMBOLS, atomic_number, species_index
from eqff.errors import ConfigError, GraphError


def test_symbols_are_ases():
    assert list(SYMBOLS) == list(chemical_symbols)


def test_species_index_follows_the_potentials_order():
    assert species_index(np.array([8, 1, 1], dtype=np.uint8), ("O", "H")).tolist() == [0, 1, 1]


@pytest.mark.parametrize("z", [6, 0, -1, 119, 10**6])
def test_unknown_species_name_the_atom(z):
    with pytest.raises(GraphError, match=r"EQ2101.*atom 2 .*H O"):
        species_index(np.array([1, 8, z]), ("H", "O"))


def test_no_such_element():
    for symbol in ("Qq", "X", "h", ""):
        with pytest.raises(ConfigError, match="EQ1003"):
            atomic_number(symbol)
