"""Configurations that are refused, and the id: fields that all families have, and those of one family."""

from pathlib import Path

import pytest

from eqff import registry
from eqff.config import from_mapping, read_toml
from eqff.errors import ConfigError

SMALLEST = Path(__file__).parents[1] / "conformance" / "smallest"
SHARED = [
    ("EQ1003", {"species": ["H", "Xx"]}),
    ("EQ1091", {"reference_energies": [1.0]}),
    ("EQ1091", {"energy_scale": [1.0, 2.0, 3.0]}),
    ("EQ1093", {"species": ["H", "H"]}),
    ("EQ1093", {"species": []}),
    ("EQ1094", {"n_layers": 0}),
    ("EQ1094", {"n_channels": 0}),
    ("EQ1094", {"l_max": -1}),
    ("EQ1094", {"radial_hidden": [8, 0]}),
    ("EQ1095", {"r_max": 0.0}),
    ("EQ1095", {"r_max": float("nan")}),
    ("EQ1095", {"r_max": float("inf")}),
    ("EQ1095", {"avg_num_neighbors": 0.0}),
    ("EQ1095", {"avg_num_neighbors": float("nan")}),
    ("EQ1097", {"energy_scale": 0.0}),
    ("EQ1097", {"energy_scale": float("nan")}),
    ("EQ1502", {"n_layers": 10**9}),
    ("EQ1502", {"l_max": 1000}),
    ("EQ1502", {"n_channels": 10**12}),
    ("EQ1502", {"r_max": 1e9}),
    ("EQ1502", {"seed": 2**63}),
    ("EQ1502", {"radial_hidden": [8] * 1000}),
    ("EQ1502", {"radial_hidden": [10**9]}),
    ("EQ1502", {"envelope_power": 10**6}),
    ("EQ1504", {"n_layers": 100, "n_channels": 65_536}),
    ("EQ1504", {"radial_hidden": [65_536, 65_536]}),
    ("EQ1094", {"n_layers": -5}),
    ("EQ1095", {"r_max": -1.0}),
]
OF_ONE_FAMILY = {
    "nequip": [
        ("EQ1040", {"hidden_irreps": "4x0"}),
        ("EQ1502", {"hidden_irreps": "1x0e + " * 1000}),
        ("EQ1502", {"readout_hidden": [10**9]}),
        ("EQ1503", {"hidden_irreps": "4x0e + 4x1000o"}),
        ("EQ1504", {"hidden_irreps": "99999999x0e"}),
        ("EQ1040", {"hidden_irreps": "9" * 500 + "x0e"}),
        ("EQ1041", {"n_bessel": 0}),
        ("EQ1929", {"envelope_power": 2}),
        ("EQ1042", {"hidden_irreps": "4x1o"}),
        ("EQ1092", {"n_channels": []}),
        ("EQ1092", {"n_channels": [4, 4, 4, 4]}),
        ("EQ1094", {"n_embedding": -1}),
        ("EQ1095", {"avg_num_neighbors": [4.0, -1.0]}),
    ],
    "tfn": [("EQ1041", {"n_bessel": 0}), ("EQ1092", {"n_channels": [4, 4, 4, 4]})],
    "se3_transformer": [
        ("EQ1041", {"n_bessel": 0}),
        ("EQ1092", {"n_channels": [4, 4, 4, 4]}),
        ("EQ1094", {"n_heads": 0}),
        ("EQ1096", {"n_heads": 3}),
        ("EQ1096", {"n_channels": [4, 4, 3]}),
    ],
    "escn": [
        ("EQ1041", {"n_basis": 0}),
        ("EQ1929", {"envelope_power": 1}),
        ("EQ1929", {"envelope_power": 1, "radial_basis": "gaussian"}),
        ("EQ1085", {"m_max": 3}),
        ("EQ1085", {"m_max": -1}),
        ("EQ1086", {"radial_hidden": []}),
        ("EQ1086", {"readout_hidden": []}),
        ("EQ1087", {"radial_basis": "gaussian", "n_basis": 1}),
        ("EQ1094", {"l_max": 0, "m_max": 0}),
    ],
    "equiformer": [
        ("EQ1040", {"hidden_irreps": "4x0"}),
        ("EQ1502", {"hidden_irreps": "1x0e + " * 1000}),
        ("EQ1502", {"feed_forward": 10**9}),
        ("EQ1503", {"hidden_irreps": "4x0e + 4x1000o"}),
        ("EQ1504", {"hidden_irreps": "99999999x0e"}),
        ("EQ1040", {"hidden_irreps": "9" * 500 + "x0e"}),
        ("EQ1929", {"envelope_power": 2}),
        ("EQ1041", {"radial_basis": "bessel", "n_basis": 0}),
        ("EQ1077", {"n_basis": 1}),
        ("EQ1078", {"n_heads": 3}),
        ("EQ1079", {"hidden_irreps": "4x1o", "head_irreps": "2x0e", "feed_forward_irreps": "4x0e"}),
        ("EQ1079", {"head_irreps": "2x1o"}),
        ("EQ1079", {"feed_forward_irreps": "2x1o"}),
        ("EQ1092", {"n_channels": [4, 4]}),
        ("EQ1094", {"n_heads": 0}),
        ("EQ1094", {"feed_forward": 0}),
        ("EQ1094", {"n_features": 0}),
    ],
}
CASES = [
    *((family, *case) for family in registry.names("models") for case in SHARED),
    *((family, *case) for family, cases in OF_ONE_FAMILY.items() for case in cases),
]


@pytest.mark.parametrize(("family", "id", "fields"), CASES, ids=[f"{family}-{fields}" for family, _, fields in CASES])
def test_impossible_configurations(family: str, id: str, fields: dict[str, object]) -> None:
    module = registry.load("models", family)
    config = from_mapping(module.Config, read_toml(SMALLEST / f"{family}.toml") | fields)
    with pytest.raises(ConfigError, match=id):
        module.Model(config)
