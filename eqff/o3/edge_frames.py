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


def local_frame(direction: Tensor, reference: Tensor) -> Tensor:
    r"""A given frame, then the smallest rotation that corrects its error:  R u = e_y.

    R = Q R0,  v = R0 u,  Q the rotation of the quaternion (1 + v_y, -v_z, 0, v_x) / norm, which turns v to e_y. Where
    R0 is exact, Q is 1 and carries the derivative; singular only at v = -e_y.

    Args:    direction u [n_edges, 3], unit length; reference R0 [n_edges, 3, 3], rotations, used without derivative
    Returns: [n_edges, 3, 3], orthonormal, determinant 1
    """
    reference = reference.detach()
    v = torch.bmm(reference, direction.unsqueeze(2)).squeeze(2)
    # Rodrigues' formula about the axis v x e_y = (-v_z, 0, v_x)
    w = 1.0 / (1.0 + v[:, 1])
    one = torch.ones_like(w)
    rows = [
        torch.stack([one - v[:, 0] * v[:, 0] * w, -v[:, 0], -v[:, 0] * v[:, 2] * w], 1),
        v,
        torch.stack([-v[:, 0] * v[:, 2] * w, -v[:, 2], one - v[:, 2] * v[:, 2] * w], 1),
    ]
    return torch.bmm(torch.stack(rows, 1), reference)
