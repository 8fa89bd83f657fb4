"""Equivariant graph attention: scores and messages of edges from depth-wise tensor products.

    m_ij = L_s x_j + L_r x_i  ->  f_ij = m_ij x Y(r_ij), weights from the distance  ->  scores s_ij, values v_ij
    y_i = L sum_j a_ij v_ij,  a_ij from s_ij by `attention_weights`

Three forms of scores and values, as in the paper's ablation: MLP attention with non-linear or with linear messages, and
dot-product attention.  Source: Liao and Smidt, Equiformer (2023), section 3.2.
"""

import math
from typing import List, Literal, Tuple

import torch
from torch import Tensor, nn

from eqff.nn.activation import normalized_leaky_relu
from eqff.nn.attention import attention_weights
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.nn.irreps_linear import IrrepsLinear
from eqff.nn.radial_profile import RadialProfile
from eqff.o3.irreps import Block, Irrep, Irreps, only, tensor_product_paths

Form = Literal["nonlinear", "linear", "dot"]


def channels_of(irreps: Irreps, irrep: Irrep) -> int:
    """Channels of an irrep, 0 if it does not occur."""
    return sum(block.n_channels for block in irreps if block.irrep == irrep)


def with_more_scalars(irreps: Irreps, n_more: int) -> Irreps:
    """The same blocks, with more channels of even scalars."""
    return tuple(Block(b.irrep, b.n_channels + n_more * (b.irrep == EVEN_SCALAR)) for b in irreps)


def times(irreps: Irreps, n: int) -> Irreps:
    """The same blocks, with n times the channels."""
    return tuple(Block(b.irrep, b.n_channels * n) for b in irreps)


class PerceptronScore(nn.Module):
    """s = w . a(x) for every head, a: leaky ReLU without a kink.

    Args: n_heads; n_channels: of each head; generator: for w, drawn from N(0, 1)
    """

    def __init__(self, n_heads: int, n_channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_heads, n_channels, generator=generator))
        self.scale = 1.0 / math.sqrt(n_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n_edges, 1, n_heads * n_channels] -> [n_edges, n_heads]."""
        heads = x.reshape(x.shape[0], self.weight.shape[0], self.weight.shape[1])
        return (normalized_leaky_relu(heads) * (self.weight * self.scale)).sum(2)


class NonlinearMessage(nn.Module):
    """Scores from scalars of f; values from f through a gate and a second tensor product.

    The weights of the published second product are left out: they would only multiply those of the next linear map.

    Args: irreps: of the gated message; irreps_f: of f; irreps_edge; irreps_head: of one head, as far as values are
        wanted; n_heads; n_scores: channels of the scores, per head; generator
    Attributes: irreps_value: of one head, the part of irreps_head that occurs
    """

    def __init__(
        self, irreps: Irreps, irreps_f: Irreps, irreps_edge: List[Irrep], irreps_head: Irreps, n_heads: int,
        n_scores: int, generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        targets = [block.irrep for block in irreps_head]
        gated = only(irreps, [block.irrep for block in irreps_f])
        paths = tensor_product_paths(gated, irreps_edge, targets)
        gated = only(gated, [EVEN_SCALAR, *[gated[path.block].irrep for path in paths]])  # paths that lead to a value
        self.gate = Gate(gated, sigmoid=True)
        n_gated = channels_of(self.gate.irreps_in, EVEN_SCALAR)
        self.linear = IrrepsLinear(irreps_f, with_more_scalars(self.gate.irreps_in, n_heads * n_scores), generator)
        self.even = [block.irrep for block in gated].index(EVEN_SCALAR)
        self.sizes = [n_gated, n_heads * n_scores]
        self.score = PerceptronScore(n_heads, n_scores, generator)
        self.product = TensorProductConvolution(gated, irreps_edge, targets)
        self.n_weights = self.product.weight_numel  # of the part that a kernel may replace
        self.irreps_value = only(irreps_head, [block.irrep for block in self.product.irreps_out])
        self.value = IrrepsLinear(self.product.irreps_out, times(self.irreps_value, n_heads), generator)

    def forward(
        self, f: List[Tensor], x: List[Tensor], edge_sh: Tensor, receivers: Tensor
    ) -> Tuple[Tensor, List[Tensor]]:
        """Message f [n_edges, 2l+1, ...] -> scores [n_edges, n_heads], values [n_edges, 2l+1, n_heads * n_channels]."""
        message = self.linear(f)
        parts = message[self.even].split(self.sizes, 2)
        message[self.even] = parts[0]
        edges = torch.arange(edge_sh.shape[0], device=edge_sh.device)
        ones = torch.ones([edge_sh.shape[0], self.n_weights], dtype=edge_sh.dtype, device=edge_sh.device)
        return self.score(parts[1]), self.value(self.product(self.gate(message), edge_sh, ones, edges, edges))


class LinearMessage(nn.Module):
    """Scores from scalars of f; values are linear in f.

    Args: irreps_f; irreps_head: of one head, as far as values are wanted; n_heads; n_scores: per head; generator
    """

    def __init__(
        self, irreps_f: Irreps, irreps_head: Irreps, n_heads: int, n_scores: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.irreps_value = only(irreps_head, [block.irrep for block in irreps_f])
        values = times(self.irreps_value, n_heads)
        self.linear = IrrepsLinear(irreps_f, with_more_scalars(values, n_heads * n_scores), generator)
        self.even = [block.irrep for block in values].index(EVEN_SCALAR)
        self.sizes = [n_heads * n_scores, channels_of(values, EVEN_SCALAR)]
        self.score = PerceptronScore(n_heads, n_scores, generator)

    def forward(
        self, f: List[Tensor], x: List[Tensor], edge_sh: Tensor, receivers: Tensor
    ) -> Tuple[Tensor, List[Tensor]]:
        """As NonlinearMessage."""
        message = self.linear(f)
        parts = message[self.even].split(self.sizes, 2)
        message[self.even] = parts[1]
        return self.score(parts[0]), message


class DotProductMessage(nn.Module):
    """Scores are products of the receiver's queries with keys that, like the values, are linear in f.

    Args: irreps: of the receiver's features; irreps_f; irreps_key: of one head; irreps_head: of one head, as far as
        values are wanted; n_heads; generator
    """

    def __init__(
        self, irreps: Irreps, irreps_f: Irreps, irreps_key: Irreps, irreps_head: Irreps, n_heads: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_heads = n_heads
        n_channels = sum(block.n_channels for block in irreps_key)
        reached = [block.irrep for block in irreps_f]
        irreps_key = only(only(irreps_key, reached), [block.irrep for block in irreps])
        self.query = IrrepsLinear(irreps, times(irreps_key, n_heads), generator)
        self.key = IrrepsLinear(irreps_f, times(irreps_key, n_heads), generator)
        self.irreps_value = only(irreps_head, reached)
        self.value = IrrepsLinear(irreps_f, times(self.irreps_value, n_heads), generator)
        self.scales = [1.0 / math.sqrt(n_channels * block.irrep.dim) for block in irreps_key]

    def forward(
        self, f: List[Tensor], x: List[Tensor], edge_sh: Tensor, receivers: Tensor
    ) -> Tuple[Tensor, List[Tensor]]:
        """As NonlinearMessage; x: the atoms' features [n_atoms, 2l+1, n_channels]."""
        queries, keys = self.query(x), self.key(f)
        score = torch.zeros([edge_sh.shape[0], self.n_heads], dtype=edge_sh.dtype, device=edge_sh.device)
        for k, scale in enumerate(self.scales):
            product = (queries[k] * scale).index_select(0, receivers) * keys[k]  # [n_edges, 2l+1, n_heads * n_channels]
            n_channels = product.shape[2] // self.n_heads
            score = score + product.reshape(product.shape[0], product.shape[1], self.n_heads, n_channels).sum([1, 3])
        return score, self.value(f)


class GraphAttention(nn.Module):
    """Attention of every atom to its neighbours.

    Args:
        irreps: of the features; irreps_message: of non-linear messages; targets: to keep; irreps_edge: of the harmonics
        irreps_head, n_heads: values, and keys, of one head; heads
        form: of scores and messages; smooth: form of `attention_weights`
        radial_widths: of the radial network, without its output; generator
    Attributes: irreps_out: the targets that some path leads to
    """

    def __init__(
        self, irreps: Irreps, irreps_message: Irreps, targets: Irreps, irreps_edge: List[Irrep], irreps_head: Irreps,
        n_heads: int, form: Form, smooth: bool, radial_widths: List[int], generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.smooth, self.n_heads = smooth, n_heads
        self.shapes = [(block.irrep.dim, block.n_channels) for block in irreps]
        self.source = IrrepsLinear(irreps, irreps, generator)
        self.target = IrrepsLinear(irreps, irreps, generator, bias=False)
        needed = only(irreps_head, [block.irrep for block in targets])  # no other value affects the result
        inside = {"nonlinear": irreps_message, "linear": needed, "dot": irreps_head}[form]
        self.convolution = TensorProductConvolution(irreps, irreps_edge, [block.irrep for block in inside])
        self.radial = RadialProfile([*radial_widths, self.convolution.weight_numel], generator)
        n_scores, irreps_f = channels_of(irreps_head, EVEN_SCALAR), self.convolution.irreps_out
        message: NonlinearMessage | LinearMessage | DotProductMessage
        if form == "nonlinear":
            message = NonlinearMessage(irreps_message, irreps_f, irreps_edge, needed, n_heads, n_scores, generator)
        elif form == "linear":
            message = LinearMessage(irreps_f, needed, n_heads, n_scores, generator)
        else:
            message = DotProductMessage(irreps, irreps_f, irreps_head, needed, n_heads, generator)
        self.message = message
        values = times(message.irreps_value, n_heads)
        self.value_shapes = [(block.irrep.dim, block.n_channels) for block in values]
        self.irreps_out = only(targets, [block.irrep for block in values])
        self.project = IrrepsLinear(values, self.irreps_out, generator)

    def forward(
        self,
        x: List[Tensor],
        edge_sh: Tensor,
        edge_radial: Tensor,
        envelope: Tensor,
        senders: Tensor,
        receivers: Tensor,
    ) -> List[Tensor]:
        """Blocks of irreps [n_atoms, 2l+1, n_channels] -> blocks of irreps_out; envelope [n_edges, 1]."""
        n_atoms, n_edges = x[0].shape[0], senders.shape[0]
        sent, received = join_blocks(self.source(x)), join_blocks(self.target(x))
        message = sent.index_select(0, senders) + received.index_select(0, receivers)  # [n_edges, width]
        edges = torch.arange(n_edges, device=senders.device)
        weight = self.radial(edge_radial)  # [n_edges, n_paths * n_channels]
        f = self.convolution(split_blocks(message, self.shapes), edge_sh, weight, edges, edges)
        score, values = self.message(f, x, edge_sh, receivers)
        attention = attention_weights(score, envelope, receivers, n_atoms, self.smooth)  # [n_edges, n_heads]
        weighted: List[Tensor] = []
        for value in values:  # [n_edges, 2l+1, n_heads * n_channels]
            heads = value.reshape(n_edges, value.shape[1], self.n_heads, value.shape[2] // self.n_heads)
            weighted.append((heads * attention[:, None, :, None]).reshape(n_edges, value.shape[1], value.shape[2]))
        joined = join_blocks(weighted)
        total = torch.zeros([n_atoms, joined.shape[1]], dtype=joined.dtype, device=joined.device)
        return self.project(split_blocks(total.index_add(0, receivers, joined), self.value_shapes))
