"""Linear maps in the frame of an edge: they need to commute only with rotations about the edge.

Features there are lists by order: [n_edges, (l_max+1) * n_channels] for m = 0, and for every m > 0
[n_edges, 2, (l_max+1-m) * n_channels] with the rows of +m and -m; degree outer, channel inner.
"""

import math
from typing import List

import torch
from torch import Tensor, nn


def split_orders(x: Tensor, l_max: int, m_max: int) -> List[Tensor]:
    """Rows in the order of `order_rows`, [n_edges, n_rows, n_channels] -> by order."""
    n_channels = x.shape[2]
    blocks = [x[:, : l_max + 1].reshape(-1, (l_max + 1) * n_channels)]
    start = l_max + 1
    for m in range(1, m_max + 1):
        n_degrees = l_max + 1 - m
        blocks.append(x[:, start : start + 2 * n_degrees].reshape(-1, 2, n_degrees * n_channels))
        start += 2 * n_degrees
    return blocks


def join_orders(blocks: List[Tensor], n_channels: int) -> Tensor:
    """By order -> [n_edges, n_rows, n_channels]."""
    joined = torch.cat([block.flatten(1) for block in blocks], 1)
    return joined.view(-1, joined.shape[1] // n_channels, n_channels)


class SO2Linear(nn.Module):
    r"""y_0 = W_0 x_0 + b;  y_(+m) = W_m x_(+m) - V_m x_(-m),  y_(-m) = W_m x_(-m) + V_m x_(+m).

    Without truncation this is every tensor product with the harmonics of the edge, degrees up to 2 l_max, paths summed.
    V couples parities (-1)^l and -(-1)^l: with natural parity it must vanish for reflections to be a symmetry.

    Args:
        n_in, n_out: channels of every degree; l_max, m_max
        n_extra: scalars in front of y_0, e.g. for gates
        reflections: leave out V, so that the map commutes with reflections as well
        generator: for the weights, drawn from N(0, 1); scaled by 1 / sqrt(fan_in) when used
    Source: Passaro and Zitnick, eSCN (2023), eq. 10 - 12
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        l_max: int,
        m_max: int,
        n_extra: int,
        reflections: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.reflections = reflections
        widths = [(l_max + 1 - m) * n_in for m in range(m_max + 1)]
        outputs = [n_extra + (l_max + 1) * n_out]
        outputs += [(1 if reflections else 2) * (l_max + 1 - m) * n_out for m in range(1, m_max + 1)]
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(i, o, generator=generator)) for i, o in zip(widths, outputs, strict=True)]
        )
        self.scales = [1.0 / math.sqrt(widths[0])]
        self.scales += [1.0 / math.sqrt((1 if reflections else 2) * width) for width in widths[1:]]
        self.bias = nn.Parameter(torch.zeros(outputs[0]))

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """By order -> by order; n_extra scalars stand in front of m = 0."""
        outputs: List[Tensor] = []
        for m, weight in enumerate(self.weights):
            x, weight = blocks[m], weight * self.scales[m]
            if m == 0:
                outputs.append(torch.addmm(self.bias, x, weight))
            else:
                y = torch.mm(x.reshape(-1, x.shape[2]), weight).view(-1, 2, weight.shape[1])
                if not self.reflections:
                    real, imaginary = y.chunk(2, 2)
                    turned = torch.stack([-imaginary[:, 1], imaginary[:, 0]], 1)
                    y = real + turned
                outputs.append(y)
        return outputs


class SO2Gate(nn.Module):
    """Scalars (l = 0) are activated by SiLU; rows of l > 0 are multiplied by one sigmoid for each degree and channel.

    Args: n_channels; l_max
    Attributes: n_gates: numbers expected in front of m = 0
    """

    def __init__(self, n_channels: int, l_max: int) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_gates = l_max * n_channels

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """By order, with n_gates numbers in front of m = 0 -> by order, without them."""
        first = blocks[0]
        gate = torch.sigmoid(first[:, : self.n_gates])  # [n_edges, l_max * n_channels]
        scalars = torch.nn.functional.silu(first[:, self.n_gates : self.n_gates + self.n_channels])
        outputs = [torch.cat([scalars, first[:, self.n_gates + self.n_channels :] * gate], 1)]
        for k, block in enumerate(blocks[1:]):
            outputs.append(block * gate[:, k * self.n_channels :].unsqueeze(1))
        return outputs
