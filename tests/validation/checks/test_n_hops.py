"""The receptive field of models that pass sums on a known number of times."""

import pytest
import torch
from toys import Hops

from eqff.models import nequip
from eqff.potential import GradientEvaluator
from eqff.validation.checks.n_hops import measure_n_hops


@pytest.mark.parametrize("n_hops", [1, 2, 4])
def test_receptive_field_is_measured(n_hops):
    assert measure_n_hops(GradientEvaluator(Hops(n_hops).to(torch.float64)), n_hops + 2, 3.0, 2) == n_hops


@pytest.mark.parametrize(("n_layers", "parity"), [(1, "natural"), (2, "both"), (3, "natural")])
def test_receptive_field_of_nequip_is_its_number_of_layers(n_layers, parity):
    config = nequip.Config(species=("H", "O"), l_max=1, n_layers=n_layers, n_channels=4, parity=parity)
    model = nequip.Model(config).to(torch.float64)
    assert measure_n_hops(GradientEvaluator(model), n_layers + 2, config.r_max, 2) == n_layers
