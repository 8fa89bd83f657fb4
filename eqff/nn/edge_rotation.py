"""Wigner matrices of edges, restricted to the rows that layers in the frame of an edge use."""

from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.constant import Constant
from eqff.o3.edge_frames import helper_axis_frame
from eqff.o3.wigner import order_rows, wigner_matrices, wigner_recursion


class EdgeRotation(nn.Module):
    """Rows of the matrix that turns features into the frame of an edge, where the edge lies along y.

    Args: l_max of features; m_max: largest |m| that is kept
    Attributes: n_rows: sum over l of min(2l+1, 2 m_max + 1)
    """

    place: Tensor

    def __init__(self, l_max: int, m_max: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList([Constant(wigner_recursion(l)) for l in range(2, l_max + 1)])
        rows = order_rows(l_max, m_max)
        self.n_rows, self.n_columns = len(rows), (l_max + 1) ** 2
        starts = [sum((2 * k + 1) ** 2 for k in range(l)) for l in range(l_max + 2)]
        # source of every element in the flat matrices, which a zero follows
        place = torch.full((self.n_rows, self.n_columns), starts[-1], dtype=torch.int64)
        for row, (l, m) in enumerate(rows):
            place[row, l * l : (l + 1) ** 2] = starts[l] + (l + m) * (2 * l + 1) + torch.arange(2 * l + 1)
        self.register_buffer("place", place.flatten())

    def forward(self, direction: Tensor) -> Tensor:
        """Direction [n_edges, 3], unit length -> [n_edges, n_rows, (l_max+1)^2], orthonormal rows."""
        return self.rows(helper_axis_frame(direction))

    def rows(self, frame: Tensor) -> Tensor:
        """The same for given frames [n_edges, 3, 3]."""
        tables: List[Tensor] = []
        for table in self.tables:
            tables.append(table().to(frame.dtype))
        matrices = wigner_matrices(frame, tables)
        parts = [matrix.flatten(1) for matrix in matrices]
        parts.append(torch.zeros_like(parts[0]))
        return torch.cat(parts, 1).index_select(1, self.place).view(-1, self.n_rows, self.n_columns)
