"""Right-handed frames whose second axis lies along an edge, without angles: no direction is special.

The energy must not depend on the roll about the edge. Where it does not, the derivative of the roll cancels, so any
frame that is differentiable near a direction gives exact forces, though no frame is continuous on the whole sphere.
"""

import torch
from torch import Tensor


def helper_axis_frame(direction: Tensor) -> Tensor:
    r"""Rows (x, u, z) with R u = e_y:  z = e_k x u / |e_k x u|,  x = u x z,  k = argmin |u_k|.

    |e_k x u| >= sqrt(2/3): never singular. The choice of k has no derivative.

    Args:    direction u [n_edges, 3], unit length
    Returns: [n_edges, 3, 3], orthonormal, determinant 1
    """
    smallest = direction.detach().abs().argmin(1, keepdim=True)
    helper = (torch.arange(3, device=direction.device) == smallest).to(direction.dtype)
    z = torch.linalg.cross(helper, direction, dim=1)
    z = z / z.square().sum(1, keepdim=True).sqrt()
    return torch.stack([torch.linalg.cross(direction, z, dim=1), direction, z], 1)
