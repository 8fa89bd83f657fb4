"""The network published as eSCN: direct forces, a grid on the sphere, frames from outside.

Passaro and Zitnick, ICML (2023), arXiv:2302.03655.  It checks blocks that eqff.models.escn shares with it (Wigner
matrices, rows by order, frames of edges) against stored results of fairchem. It is no potential, and not imported:
forces are not a gradient, energies jump at the cut-off and change with the roll of frames.
"""

from collections.abc import Mapping
from typing import Any, List, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.gaussian import GaussianBasis
from eqff.nn.so2 import join_orders, split_orders
from eqff.o3.wigner import order_rows

from .sphere import GridMixing, SphereGrid, SphereReadout, linear

silu = torch.nn.functional.silu
DERIVED = ("distance_expansion.offset", "Jd", "SO3_", "_grid_mat", "mapping")
SEGMENTS = {  # of a name, theirs -> ours
    "layer_blocks": "layers",
    "message_block": "message",
    "edge_block": "edge",
    "so2_block_source": "sender",
    "so2_block_target": "receiver",
    "so2_conv": "orders",
    "source_embedding": "sender",
    "target_embedding": "receiver",
    "sphere_embedding": "embedding",
    "fc1_dist": "distance",
    "fc1_dist0": "distance",
    "fc1_edge_attr": "output",
    "fc1_m0": "scalar_in",
    "fc2_m0": "scalar_out",
    "fc1_r": "real_in",
    "fc2_r": "real_out",
    "fc1_i": "imaginary_in",
    "fc2_i": "imaginary_out",
    "fc1_sphere": "mixing.first",
    "fc2_sphere": "mixing.second",
    "fc3_sphere": "mixing.third",
    "energy_block": "readout.energy",
    "force_block": "readout.forces",
    "fc1": "first",
    "fc2": "second",
    "fc3": "third",
    "sphere_points": "readout.points",
    "sphharm_weights": "readout.harmonics",
}


class EdgeEmbedding(nn.Module):
    """Invariant features of an edge, from its length and the elements at both ends."""

    def __init__(self, n_basis: int, n_elements: int, n_channels: int) -> None:
        super().__init__()
        self.distance = linear(n_basis, n_channels, True)
        self.sender = nn.utils.skip_init(nn.Embedding, n_elements, n_channels)
        self.receiver = nn.utils.skip_init(nn.Embedding, n_elements, n_channels)
        self.output = linear(n_channels, n_channels, True)

    def forward(self, basis: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """Basis [n_edges, n_basis], atomic numbers [n_edges] -> [n_edges, n_channels]."""
        x = self.sender(sender) + self.receiver(receiver) + self.distance(basis)
        return silu(self.output(silu(x)))


class OrderBlock(nn.Module):
    """One order m > 0: two linear maps with edge weights between, a real and an imaginary pair."""

    def __init__(self, width: int, n_hidden: int, n_edge: int) -> None:
        super().__init__()
        self.distance = linear(n_edge, 2 * n_hidden, True)
        self.real_in, self.real_out = linear(width, n_hidden, False), linear(n_hidden, width, False)
        self.imaginary_in, self.imaginary_out = linear(width, n_hidden, False), linear(n_hidden, width, False)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        """[n_edges, 2, width], [n_edges, n_edge] -> [n_edges, 2, width]."""
        real, imaginary = silu(self.distance(edge)).unsqueeze(1).chunk(2, 2)
        real = self.real_out(self.real_in(x) * real)
        imaginary = self.imaginary_out(self.imaginary_in(x) * imaginary)
        return torch.stack([real[:, 0] - imaginary[:, 1], real[:, 1] + imaginary[:, 0]], 1)


class OrderBlocks(nn.Module):
    """All orders, each with maps of its own; features in the frame of the edge, [n_edges, n_rows, n_channels]."""

    def __init__(self, l_max: int, m_max: int, n_channels: int, n_hidden: int, n_edge: int) -> None:
        super().__init__()
        self.l_max, self.m_max, self.n_channels = l_max, m_max, n_channels
        width = (l_max + 1) * n_channels
        self.distance = linear(n_edge, n_hidden, True)
        self.scalar_in, self.scalar_out = linear(width, n_hidden, False), linear(n_hidden, width, False)
        self.orders = nn.ModuleList(
            [OrderBlock((l_max + 1 - m) * n_channels, n_hidden, n_edge) for m in range(1, m_max + 1)]
        )

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        """[n_edges, n_rows, n_channels], [n_edges, n_edge] -> [n_edges, n_rows, n_channels]."""
        blocks = split_orders(x, self.l_max, self.m_max)
        outputs: List[Tensor] = [self.scalar_out(self.scalar_in(blocks[0]) * silu(self.distance(edge)))]
        for k, order in enumerate(self.orders):
            outputs.append(order(blocks[k + 1], edge))
        return join_orders(outputs, self.n_channels)


class SphereMessage(nn.Module):
    """Message of all neighbours: features of both ends turned to the edge, mixed, activated on a grid, turned back."""

    def __init__(self, sizes: Tuple[int, int, int, int, int], n_basis: int, n_elements: int, grid: SphereGrid) -> None:
        super().__init__()
        l_max, m_max, _, _, n_edge = sizes
        self.grid = grid
        self.edge = EdgeEmbedding(n_basis, n_elements, n_edge)
        self.sender, self.receiver = OrderBlocks(*sizes), OrderBlocks(*sizes)
        rows = order_rows(l_max, m_max)
        self.by_degree = sorted(range(len(rows)), key=rows.__getitem__)
        self.by_order = sorted(range(len(rows)), key=self.by_degree.__getitem__)

    def forward(
        self, x: Tensor, numbers: Tensor, senders: Tensor, receivers: Tensor, basis: Tensor, turn: Tensor
    ) -> Tensor:
        """[n_atoms, (l_max+1)^2, n_channels] -> the same shape."""
        edge = self.edge(basis, numbers[senders], numbers[receivers])
        message = self.sender(torch.bmm(turn, x[senders]), edge) + self.receiver(torch.bmm(turn, x[receivers]), edge)
        message = self.grid(message[:, self.by_degree])[:, self.by_order]
        return torch.zeros_like(x).index_add(0, receivers, torch.bmm(turn.transpose(1, 2), message))


class SphereLayer(nn.Module):
    """Message, then the update of the atoms; the first layer replaces features, later ones add to them."""

    def __init__(self, message: SphereMessage, mixing: GridMixing, residual: bool) -> None:
        super().__init__()
        self.message, self.mixing, self.residual = message, mixing, residual

    def forward(
        self, x: Tensor, numbers: Tensor, senders: Tensor, receivers: Tensor, basis: Tensor, turn: Tensor
    ) -> Tensor:
        """[n_atoms, (l_max+1)^2, n_channels] -> the same shape, without x itself."""
        return self.mixing(x, self.message(x, numbers, senders, receivers, basis, turn))


class SphereNetwork(nn.Module):
    """The whole of it.  Weights are not initialised.

    Args: r_max Å; l_max, m_max; n_layers; n_channels; n_hidden; n_edge: channels of edges; n_basis Gaussians of `width`
        spacings; n_elements: atomic numbers below; n_points: of the read-out; resolution: of both grids, None: smallest
    """

    def __init__(
        self, *, r_max: float, l_max: int, m_max: int, n_layers: int, n_channels: int, n_hidden: int, n_edge: int,
        n_basis: int, width: float, n_elements: int, n_points: int, resolution: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_rows = (l_max + 1) ** 2
        self.basis = GaussianBasis(r_max, n_basis, width)
        self.rotation = EdgeRotation(l_max, m_max)
        self.embedding = nn.utils.skip_init(nn.Embedding, n_elements, n_channels)
        sizes = (l_max, m_max, n_channels, n_hidden, n_edge)
        edges, atoms = SphereGrid(l_max, m_max, resolution), SphereGrid(l_max, l_max, resolution)
        self.layers = nn.ModuleList(
            [
                SphereLayer(SphereMessage(sizes, n_basis, n_elements, edges), GridMixing(n_channels, atoms), k > 0)
                for k in range(n_layers)
            ]
        )
        self.readout = SphereReadout(n_channels, n_points, l_max)

    def forward(
        self, numbers: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, frames: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Energies [n_atoms] eV and forces [n_atoms, 3] eV/Å, from atomic numbers, edges and frames [n_edges, 3, 3]."""
        turn = self.rotation.rows(frames)
        basis = self.basis(edge_vector.square().sum(1, keepdim=True).sqrt())
        x = torch.nn.functional.pad(self.embedding(numbers).unsqueeze(1), [0, 0, 0, self.n_rows - 1])
        for layer in self.layers:
            update = layer(x, numbers, senders, receivers, basis, turn)
            x = x + update if layer.residual else update
        return self.readout(x)


def our_name(name: str) -> str:
    """Name of an array of the published network in `SphereNetwork`; wrappers in front of it are dropped."""
    marks = ("layer_blocks.", "sphere_", "sphharm_", "energy_block.", "force_block.")
    name = name[min((name.index(mark) for mark in marks if mark in name), default=0) :]
    name = name.removesuffix(".0") if name.startswith("sphharm") else name
    return ".".join(SEGMENTS.get(segment, segment) for segment in name.split("."))


def published(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> SphereNetwork:
    """The published network with its weights, float64.

    Args: foreign: arguments of fairchem's eSCN; state: its state dict as arrays
    """
    arrays = {our_name(name): array for name, array in state.items() if not any(mark in name for mark in DERIVED)}
    (l_max,), (m_max,) = foreign.get("lmax_list", [6]), foreign.get("mmax_list", [2])
    n_edge, n_basis = arrays["layers.0.message.edge.distance.weight"].shape
    resolution = foreign.get("resolution")
    network = SphereNetwork(
        r_max=float(foreign["cutoff"]),
        l_max=int(l_max),
        m_max=int(m_max),
        n_layers=len({name.split(".")[1] for name in arrays if name.startswith("layers.")}),
        n_channels=arrays["embedding.weight"].shape[1],
        n_hidden=arrays["layers.0.message.sender.scalar_in.weight"].shape[0],
        n_edge=n_edge,
        n_basis=n_basis,
        width=float(foreign.get("basis_width_scalar", 1.0)),
        n_elements=arrays["embedding.weight"].shape[0],
        n_points=arrays["readout.points"].shape[0],
        resolution=None if resolution is None else int(resolution),
    ).to(torch.float64)
    constants = {name: value for name, value in network.state_dict().items() if name not in arrays}
    assert all(name.endswith((".parts", ".place")) for name in constants), "a weight is missing"
    weights = {name: torch.tensor(np.asarray(array), dtype=torch.float64) for name, array in arrays.items()}
    network.load_state_dict(constants | weights, strict=True)
    return network.requires_grad_(False)
