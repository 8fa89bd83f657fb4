"""Programs: operations that another machine may not have, or that touch files, are refused."""

import pytest
import torch
from torch import nn

from eqff.artifact.scripting import check_operators, script
from eqff.errors import PotentialError


def test_foreign_operations_are_refused():
    class Quantized(nn.Module):
        def forward(self, x):
            return torch.ops.quantized.relu6(x)

    class FileReader(nn.Module):
        def forward(self, x):
            return x

        @torch.jit.export
        def never_called(self, name: str):
            return torch.from_file(name, False, 1)

    for module, name in ((Quantized(), "quantized::relu6"), (FileReader(), "aten::from_file")):
        with pytest.raises(PotentialError, match=f"EQ4142.*{name}"):
            check_operators(torch.jit.script(module))


def test_module_that_cannot_be_scripted_is_refused_with_torchs_reason():
    class Unscriptable(nn.Module):
        def forward(self, x):
            return x.unknown_method()

    with pytest.raises(PotentialError, match=r"EQ4330.*unknown_method"):
        script(Unscriptable())
