"""Scale and shift in float64, whatever the weights are."""

import torch

from eqff.nn.readout import SpeciesScaleShift

SCALE, SHIFT = (0.7, 1.3), (-13.605693122994, -1029.4889999)


def test_formula_in_float64_after_a_cast_of_the_weights():
    module = SpeciesScaleShift(SCALE, SHIFT).to(torch.float32)
    x = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float32)
    energies = module(x, torch.tensor([1, 0, 1]))
    assert energies.dtype == torch.float64
    assert energies.tolist() == [SCALE[k] * float(v) + SHIFT[k] for k, v in zip([1, 0, 1], x, strict=True)]


def test_zero_features_leave_the_reference_energies():
    module = SpeciesScaleShift(SCALE, SHIFT).to(torch.float32)
    assert tuple(module(torch.zeros(2), torch.tensor([0, 1])).tolist()) == SHIFT
