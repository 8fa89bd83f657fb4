"""Attention over incoming edges: from scores to weights, with and without a jump at the cut-off."""

import torch
from torch import Tensor


def attention_weights(score: Tensor, envelope: Tensor, receivers: Tensor, n_atoms: int, smooth: bool) -> Tensor:
    r"""Weights of the edges k -> i that each atom i receives, one set for each head.

    smooth:    a_ij = u_ij exp(s_ij) / (1 + sum_k u_ik exp(s_ik)),  u = envelope
    published: a_ij =      exp(s_ij) /      sum_k      exp(s_ik),   over edges with u > 0

    The smooth weights and their derivatives vanish at the cut-off together with u, for the last neighbour as well; the
    published ones jump there. An edge with u = 0 has weight 0 and changes no other weight. Twice differentiable.

    Args:
        score [n_edges, n_heads]: s
        envelope [n_edges, 1]: u >= 0, exactly 0 from r_max on
        receivers [n_edges] int64; n_atoms
        smooth: which of the two forms
    Returns: [n_edges, n_heads]
    Source:  Liao and Smidt, Equiformer (2023), eq. 3 (published)
    """
    envelope = envelope.to(score.dtype)
    inside = envelope > 0.0
    score = torch.where(inside, score, torch.full_like(score, -1e30))  # edges beyond the cut-off do not count
    lowest = torch.zeros([n_atoms, score.shape[1]], dtype=score.dtype, device=score.device)  # exponent of the "1 +"
    if not smooth:
        envelope = inside.to(score.dtype)
        lowest = torch.full_like(lowest, -1e30)
    # the shift of exponents cancels, so it needs no derivative
    place = receivers.unsqueeze(1).expand(score.shape[0], score.shape[1])
    shift = lowest.scatter_reduce(0, place, score.detach(), "amax")
    weight = envelope * torch.exp(score - shift.index_select(0, receivers))
    total = torch.zeros_like(lowest).index_add(0, receivers, weight)
    if smooth:
        total = total + torch.exp(-shift)
    else:
        total = torch.where(total > 0.0, total, torch.ones_like(total))
    return weight / total.index_select(0, receivers)
