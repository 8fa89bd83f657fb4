"""Layers on features [n_atoms, (l_max+1)^2, n_channels] with the same channels for every degree."""

import math

import torch
from torch import Tensor, nn


def degrees(l_max: int) -> Tensor:
    """The degree of every row: 0, 1, 1, 1, 2, ...; [(l_max+1)^2] int64."""
    return torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])


def first_row(x: Tensor, n_rows: int) -> Tensor:
    """Scalars [..., 1, n_channels], followed by zeros for the other rows: [..., n_rows, n_channels]."""
    return torch.nn.functional.pad(x, [0, 0, 0, n_rows - 1])


class ScalarLinear(nn.Module):
    """y = x W / sqrt(n_in) + b.

    Args: n_in, n_out; generator: for the weights, drawn from N(0, 1)
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out, generator=generator))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.scale = 1.0 / math.sqrt(n_in)

    def forward(self, x: Tensor) -> Tensor:
        """[n, n_in] -> [n, n_out]."""
        return torch.addmm(self.bias, x, self.weight * self.scale)


class DegreeNorm(nn.Module):
    r"""x -> w_l x / RMS + b:  one root mean square over all degrees, each with the same weight.

    RMS^2 = mean over channels of 1/(l_max+1) sum_lm x_lm^2 / (2l+1) + eps; the mean of the scalars is subtracted first.

    Args: l_max; n_channels; eps
    Source: the norm "rms_norm_sh" of EquiformerV2 and eSEN
    """

    degree: Tensor

    def __init__(self, l_max: int, n_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.n_rows = (l_max + 1) ** 2
        self.weight = nn.Parameter(torch.ones(l_max + 1, n_channels))
        self.bias = nn.Parameter(torch.zeros(1, n_channels))
        self.register_buffer("degree", degrees(l_max))
        self.scale = 1.0 / ((l_max + 1) * n_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n_atoms, (l_max+1)^2, n_channels] -> the same shape."""
        x = x - first_row(x[:, :1].mean(2, keepdim=True), self.n_rows)
        balance = self.scale / (2.0 * self.degree.to(x.dtype) + 1.0)  # [(l_max+1)^2]
        mean_square = (x.square().sum(2) * balance).sum(1) + self.eps
        scale = mean_square.rsqrt()[:, None, None]
        return x * scale * self.weight.index_select(0, self.degree) + first_row(self.bias, self.n_rows)


class DegreeLinear(nn.Module):
    """y_lm = W_l x_lm / sqrt(n_in), and a bias for l = 0.

    Args: l_max; n_in, n_out: channels; generator: for the weights, drawn from N(0, 1)
    """

    degree: Tensor

    def __init__(self, l_max: int, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_rows = (l_max + 1) ** 2
        self.weight = nn.Parameter(torch.randn(l_max + 1, n_in, n_out, generator=generator))
        self.bias = nn.Parameter(torch.zeros(1, n_out))
        self.scale = 1.0 / math.sqrt(n_in)
        self.register_buffer("degree", degrees(l_max))

    def forward(self, x: Tensor) -> Tensor:
        """[n_atoms, (l_max+1)^2, n_in] -> [n_atoms, (l_max+1)^2, n_out]."""
        weight = (self.weight * self.scale).index_select(0, self.degree)
        return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1) + first_row(self.bias, self.n_rows)


class GatedFeedForward(nn.Module):
    """linear -> gate -> linear for each atom separately; gates come from the scalars.

    Gates are sigmoid(SiLU(.)), as published.

    Args: l_max; n_channels; n_hidden: channels between the linear maps; generator
    Source: the "spectral" atom-wise block of eSEN (Fu et al., 2025)
    """

    degree: Tensor

    def __init__(self, l_max: int, n_channels: int, n_hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.gate = ScalarLinear(n_channels, l_max * n_hidden, generator)
        self.linear_in = DegreeLinear(l_max, n_channels, n_hidden, generator)
        self.linear_out = DegreeLinear(l_max, n_hidden, n_channels, generator)
        self.l_max, self.n_hidden = l_max, n_hidden
        self.register_buffer("degree", degrees(l_max)[1:] - 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n_atoms, (l_max+1)^2, n_channels] -> the same shape."""
        gate = torch.sigmoid(torch.nn.functional.silu(self.gate(x[:, 0]))).view(-1, self.l_max, self.n_hidden)
        x = self.linear_in(x)
        scalars = torch.nn.functional.silu(x[:, :1])
        x = torch.cat([scalars, x[:, 1:] * gate.index_select(1, self.degree)], 1)
        return self.linear_out(x)
