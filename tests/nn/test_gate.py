"""The gate against e3nn's."""

import pytest
import torch
from e3nn import o3
from e3nn.nn import Gate as ForeignGate

from eqff.errors import ConfigError
from eqff.nn.gate import Gate
from eqff.o3.irreps import parse, to_text

CASES = ["6x0e", "5x0e + 3x1o + 2x2e", "2x0o + 5x0e + 3x1o + 4x1e", "3x0e + 2x0o + 4x2e + 1x1o"]


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("text", CASES)
@pytest.mark.usefixtures("float64_default")
def test_gate_is_e3nns(text, sigmoid):
    ours = Gate(parse(text), sigmoid)
    scalars = [(mul, ir) for mul, ir in o3.Irreps(text) if ir.l == 0 and (ir.p == 1 or not sigmoid)]
    gated = [(mul, ir) for mul, ir in o3.Irreps(text) if (mul, ir) not in scalars]
    activations = {1: torch.nn.functional.silu, -1: torch.tanh}
    theirs = ForeignGate(
        scalars,
        [activations[ir.p] for _, ir in scalars],
        [(mul, "0e") for mul, _ in gated],
        [torch.sigmoid if sigmoid else torch.nn.functional.silu for _ in gated],
        gated,
    )
    assert o3.Irreps(to_text(ours.irreps_in)).sort().irreps.simplify() == theirs.irreps_in.simplify()

    generator = torch.Generator().manual_seed(0)
    shapes = [(7, block.irrep.dim, block.n_channels) for block in ours.irreps_in]
    blocks = [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]
    stored = sorted(range(len(blocks)), key=lambda k: ours.irreps_in[k].irrep)  # e3nn's inputs are sorted
    expected = theirs(torch.cat([blocks[k].transpose(1, 2).flatten(1) for k in stored], 1))
    outputs = dict(zip([block.irrep for block in ours.irreps_out], ours(blocks), strict=True))
    theirs_order = [(ir.l, ir.p) for _, ir in theirs.irreps_out]  # scalars first
    computed = torch.cat([outputs[irrep].transpose(1, 2).flatten(1) for irrep in theirs_order], 1)
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-13)


def test_zero_stays_zero():
    gate = Gate(parse("2x0e + 3x1o"))
    outputs = gate([torch.zeros(1, block.irrep.dim, block.n_channels) for block in gate.irreps_in])
    assert [float(block.abs().sum()) for block in outputs] == [0.0, 0.0]


def test_gates_need_even_scalars():
    with pytest.raises(ConfigError, match="EQ1042"):
        Gate(parse("4x0o + 2x1o"))
