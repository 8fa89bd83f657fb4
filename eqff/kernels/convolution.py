"""Continuous convolution over neighbours in plain ATen: the central operation of every model."""

from typing import List, Tuple

import torch
from torch import Tensor


def convolve(
    x: Tensor,
    edge_coupling: Tensor,
    edge_weight: Tensor,
    segments: List[Tuple[int, int]],
    senders: Tensor,
    receivers: Tensor,
) -> List[Tensor]:
    r"""Tensor-product messages summed at their receivers, for one input irrep.

    out[i, m3, path, c] = sum_(edges j -> i) w[edge, path, c] sum_m1 T[edge, (m3, path), m1] x[j, m1, c]

    Paths with the same output irrep form a segment; rows of T are ordered (segment, m3, path), columns of w
    (segment, path, channel), so results need no transposition. Twice differentiable in x, T and w.

    Args:
        x [n_atoms, 2 l1 + 1, n_channels]: features
        edge_coupling [n_edges, sum (2 l3 + 1) n_paths, 2 l1 + 1]: T, harmonics contracted with coupling coefficients
        edge_weight [n_edges, sum n_paths * n_channels]: w, learned function of the edge length
        segments: (2 l3 + 1, n_paths) of each output irrep
        senders, receivers [n_edges] int64
    Returns: for each segment [n_atoms, 2 l3 + 1, n_paths * n_channels]
    """
    n_atoms, n_channels, n_edges = x.shape[0], x.shape[2], senders.shape[0]
    sender_x = x.index_select(0, senders)  # [n_edges, 2 l1 + 1, n_channels]
    if x.shape[1] == 1:
        message = edge_coupling * sender_x
    else:
        message = torch.bmm(edge_coupling, sender_x)  # [n_edges, sum (2 l3 + 1) n_paths, n_channels]
    messages = message.split([dim * n_paths for dim, n_paths in segments], 1)
    weights = edge_weight.split([n_paths * n_channels for _, n_paths in segments], 1)
    outputs: List[Tensor] = []
    for k, (dim, n_paths) in enumerate(segments):
        weighted = messages[k].reshape(n_edges, dim, n_paths * n_channels) * weights[k].unsqueeze(1)
        total = torch.zeros([n_atoms, dim, n_paths * n_channels], dtype=x.dtype, device=x.device)
        outputs.append(total.index_add(0, receivers, weighted))
    return outputs
