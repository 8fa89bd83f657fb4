"""Self-interaction against its sum, term by term."""

import math

import torch

from eqff.nn.self_interaction import SelfInteraction
from eqff.o3.irreps import parse


def test_own_features_and_messages_are_mixed_by_irrep():
    own, message = parse("3x0e + 2x1o"), parse("4x1o + 5x0e + 6x2e")  # no 2e of its own; another order
    layer = SelfInteraction(own, message, [2, 3, 4], torch.Generator().manual_seed(0)).to(torch.float64)
    generator = torch.Generator().manual_seed(1)
    x, m = (
        [torch.randn(5, b.irrep.dim, b.n_channels, dtype=torch.float64, generator=generator) for b in irreps]
        for irreps in (own, message)
    )
    outputs = layer(x, m)
    joined = [torch.cat([x[1], m[0]], 2), torch.cat([x[0], m[1]], 2), m[2]]
    for k, (y, z) in enumerate(zip(outputs, joined, strict=True)):
        expected = torch.einsum("nmc,cd->nmd", z, layer.linear.weights[k]) / math.sqrt(z.shape[2])
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)
    assert [tuple(y.shape) for y in outputs] == [(5, 3, 2), (5, 1, 3), (5, 5, 4)]
