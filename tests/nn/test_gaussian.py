"""The Gaussian basis by its formula."""

import numpy as np
import pytest
import torch

from eqff.errors import ConfigError
from eqff.nn.gaussian import GaussianBasis


def test_formula():
    r = torch.linspace(0.3, 4.5, 7, dtype=torch.float64).unsqueeze(1)
    means = np.linspace(0.0, 4.0, 9)
    expected = np.exp(-((r.numpy() - means) ** 2) / (2 * (1.5 * 0.5) ** 2))
    np.testing.assert_allclose(GaussianBasis(4.0, 9, 1.5)(r).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("wrong", [(0.0, 8, 1.0), (4.0, 1, 1.0), (4.0, 8, 0.0)])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ConfigError, match="EQ1087"):
        GaussianBasis(*wrong)
