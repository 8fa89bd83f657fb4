"""Linear maps between irreps against e3nn's."""

import pytest
import torch
from e3nn import o3

from eqff.nn.irreps_linear import IrrepsLinear
from eqff.o3.irreps import parse, to_text

CASES = [
    ("5x0e + 3x1o", "4x0e + 2x1o"),
    ("2x1o + 5x0e + 3x0o + 1x2e", "3x2e + 4x0e + 2x1e + 2x0o"),  # 1o leads nowhere, 1e comes from nowhere
    ("3x0e", "1x0e"),
]


def example(before, after, n=4, bias=True):
    generator = torch.Generator().manual_seed(0)
    linear = IrrepsLinear(parse(before), parse(after), generator, bias).double()
    if bias:
        linear.bias.data = torch.randn(linear.bias.shape, dtype=torch.float64, generator=generator)
    shapes = [(n, block.irrep.dim, block.n_channels) for block in parse(before)]
    return linear, [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("before", "after"), CASES)
@pytest.mark.usefixtures("float64_default")
def test_linear_is_e3nns(before, after, bias):
    ours, blocks = example(before, after, bias=bias)
    theirs = o3.Linear(before, after, biases=[bias and str(ir) == "0e" for _, ir in o3.Irreps(after)])
    theirs.weight.data = torch.cat([weight.flatten() for weight in ours.weights]).detach()
    if bias:
        theirs.bias.data = ours.bias.detach()
    expected = theirs(torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], 1))
    found = torch.cat([block.transpose(1, 2).flatten(1) for block in ours(blocks)], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    assert to_text(ours.irreps_out) == after


def test_no_atoms_and_scripted():
    linear, blocks = example(*CASES[1])
    scripted = torch.jit.script(linear)
    for n in (4, 0, 1):
        part = [block[:n] for block in blocks]
        for one, other in zip(scripted(part), linear(part), strict=True):
            assert one.shape[0] == n
            torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
