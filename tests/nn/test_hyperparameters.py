"""Checks of configurations: what is refused, under which id."""

import math
from types import SimpleNamespace

import pytest

from eqff.errors import ConfigError
from eqff.nn.hyperparameters import check_counts, check_fields, check_scales, check_species, feature_irreps, per_species
from eqff.o3.irreps import to_text


@pytest.mark.parametrize(
    ("parity", "text"),
    [
        ("natural", "4x0e + 3x1o + 2x2e"),
        ("both", "4x0e + 4x0o + 3x1e + 3x1o + 2x2e + 2x2o"),
        ("none", "4x0e + 3x1e + 2x2e"),
    ],
)
def test_irreps_of_features(parity, text):
    assert to_text(feature_irreps(2, (4, 3, 2), parity)) == text


def test_one_number_stands_for_all():
    assert to_text(feature_irreps(1, 5, "natural")) == "5x0e + 5x1o"
    assert per_species(2, 3, "energy_scale") == (2.0, 2.0, 2.0)
    assert per_species((), 2, "reference_energies") == (0.0, 0.0)
    assert per_species((1.0, 2.0), 2, "energy_scale") == (1.0, 2.0)


WRONG = [
    ("EQ1091", lambda: per_species((1.0,), 2, "energy_scale")),
    ("EQ1092", lambda: feature_irreps(2, (4, 4), "natural")),
    ("EQ1093", lambda: check_species(("H", "H"))),
    ("EQ1093", lambda: check_species(())),
    ("EQ1003", lambda: check_species(("H", "Xx"))),
    ("EQ1094", lambda: check_counts({"n_layers": 0})),
    ("EQ1094", lambda: check_counts({"radial_hidden": (8, 0)})),
    ("EQ1094", lambda: check_counts({"l_max": -1}, at_least=0)),
    ("EQ1095", lambda: check_scales(1, {"r_max": 0.0}, 1.0, ())),
    ("EQ1095", lambda: check_scales(1, {"r_max": math.nan}, 1.0, ())),
    ("EQ1095", lambda: check_scales(1, {"r_max": math.inf}, 1.0, ())),
    ("EQ1097", lambda: check_scales(1, {}, math.inf, ())),
    ("EQ1097", lambda: check_scales(2, {}, 0.0, ())),
    ("EQ1098", lambda: check_scales(2, {}, 1.0, (0.0, math.nan))),
]


@pytest.mark.parametrize(("id", "wrong"), WRONG, ids=[f"{id}-{k}" for k, (id, _) in enumerate(WRONG)])
def test_what_is_refused(id, wrong):
    with pytest.raises(ConfigError, match=id):
        wrong()


def test_what_is_accepted():
    check_counts({"l_max": 0, "readout_hidden": ()}, at_least=0)
    check_counts({"readout_hidden": (), "n_layers": 1})
    check_scales(2, {"r_max": 3.0}, (1.0, 0.0), (-1.0, 2.0))


FIELDS = SimpleNamespace(
    species=("H", "C"), r_max=3.0, avg_num_neighbors=(4.0, 9.0), energy_scale=1.0, reference_energies=(), n_layers=2,
    envelope_power=6, norm_epsilon=0.1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("id", "fields"),
    [
        ("EQ1929", {"envelope_power": 2}),
        ("EQ1091", {"avg_num_neighbors": (4.0, 4.0, 4.0)}),
        ("EQ1093", {"species": ()}),
        ("EQ1094", {"n_layers": 0}),
        ("EQ1095", {"avg_num_neighbors": (4.0, -1.0)}),
        ("EQ1095", {"norm_epsilon": 0.0}),
        ("EQ1097", {"energy_scale": 0.0}),
    ],
)
def test_fields_of_all_families(id, fields):
    check_fields(FIELDS, ["n_layers"], positive=["norm_epsilon"])
    with pytest.raises(ConfigError, match=id):
        check_fields(SimpleNamespace(**(vars(FIELDS) | fields)), ["n_layers"], positive=["norm_epsilon"])
