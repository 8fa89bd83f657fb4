"""Non-linearity on norms: vectors keep their direction, and the activation acts on their length."""

from typing import List, Literal

import torch
from torch import Tensor, nn

from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.o3.irreps import Irreps

SOFTPLUS_MOMENT = 1.878204668541552  # e3nn's normalize2mom of the shifted softplus
SOFTENING = 0.1  # of norms, in units of features, which are of order 1
VARIANCE = 0.1  # added to the variance by layer norms; with much less, small differences of norms give rough forces


def shifted_softplus(x: Tensor) -> Tensor:
    """ln(e^x / 2 + 1/2), smooth everywhere (torch's own softplus jumps by 2e-9 at x = 20)."""
    return torch.logaddexp(x, torch.zeros_like(x)) - 0.6931471805599453  # ln 2


def normalized_softplus(x: Tensor, moment: float = SOFTPLUS_MOMENT) -> Tensor:
    """Shifted softplus with the second moment normalised to 1 for standard normal input."""
    return shifted_softplus(x) * moment


def soft_norm(x: Tensor, softening: float = SOFTENING) -> Tensor:
    """sqrt(sum_m x_m^2 + eps^2) of [n_atoms, 2l+1, n_channels] -> [n_atoms, 1, n_channels]; smooth at x = 0."""
    return (x.square().sum(1, keepdim=True) + softening * softening).sqrt()


class NormActivation(nn.Module):
    r"""s -> a(s + b) for even scalars; x -> x a(|x| + b) / |x| for everything else, one bias b per channel.

    plain:      a = shifted softplus                                         (Tensor Field Network)
    normalized: s and |x| are layer normalised over channels (with gain and bias b),
                a = silu                                                     (SE(3)-Transformer)

    |x| = sqrt(sum_m x_m^2 + eps^2): forces exist even where a vector vanishes, which symmetry often enforces.

    Args:   irreps: of input and output; normalized: which of the two
    Source: Thomas et al., Tensor Field Networks (2018), section 4.1.4; Fuchs et al., SE(3)-Transformers (2020),
            appendix C; there with a kink at zero and ReLU
    """

    def __init__(self, irreps: Irreps, normalized: bool) -> None:
        super().__init__()
        self.irreps_in = irreps
        self.scalar = [block.irrep == EVEN_SCALAR for block in irreps]
        self.normalized = normalized
        n_channels = [block.n_channels for block in irreps]
        self.shifts = nn.ModuleList([nn.LayerNorm(n, eps=VARIANCE) if normalized else Bias(n) for n in n_channels])

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels] -> the same shapes."""
        outputs: List[Tensor] = []
        for k, shift in enumerate(self.shifts):
            x = blocks[k]
            length = x if self.scalar[k] else soft_norm(x)  # [n_atoms, 1, n_channels]
            shifted = shift(length)
            activated = torch.nn.functional.silu(shifted) if self.normalized else normalized_softplus(shifted)
            outputs.append(activated if self.scalar[k] else x * (activated / length))
        return outputs


class Bias(nn.Module):
    """x + b, one b per channel, 0 at first."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def nonlinearity(kind: Literal["norm", "gate"], irreps: Irreps, normalized: bool) -> Gate | NormActivation:
    """NormActivation as published, or a Gate; its irreps_in include the gates, which are further scalars."""
    return Gate(irreps) if kind == "gate" else NormActivation(irreps, normalized)
