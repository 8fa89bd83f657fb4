"""The published eSCN (fairchem) -> its own network, exactly; and a starting point for training eqff's eSCN.

It is no potential: `convert` gives a model with as many of its weights as have a counterpart, to be trained further.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from eqff import config as config_io
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, PotentialError
from eqff.models.escn import Config, Interaction, Model
from eqff.nn.degree_layers import ScalarLinear
from eqff.nn.sphere_network import OrderBlock, SphereLayer, SphereNetwork

FAMILY = "escn"
POTENTIAL_REFUSED = (
    "the published eSCN predicts forces directly, which are no gradient of its energy; its energy changes with the "
    "random roll of frames and jumps where a neighbour crosses the cut-off or the cap of neighbours. Its weights are a "
    "starting point for training an energy model"
)
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


class Imported(NamedTuple):
    """A starting point for training."""

    config: Config
    model: Model  # float64


def our_name(name: str) -> str:
    """Name of an array of the published network in `SphereNetwork`; wrappers in front of it are dropped."""
    marks = ("layer_blocks.", "sphere_", "sphharm_", "energy_block.", "force_block.")
    name = name[min((name.index(mark) for mark in marks if mark in name), default=0) :]
    name = name.removesuffix(".0") if name.startswith("sphharm") else name
    return ".".join(SEGMENTS.get(segment, segment) for segment in name.split("."))


def published(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> SphereNetwork:
    """The published network with its weights, float64.

    Args:    foreign: arguments of fairchem's eSCN; state: its state dict as arrays
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size; ConfigError for an option
             that is not known here
    """
    arrays = {our_name(name): array for name, array in state.items() if not any(mark in name for mark in DERIVED)}
    for key, known in (("distance_function", "gaussian"), ("use_grid", True)):
        if foreign.get(key, known) != known:
            raise ConfigError("EQ1420", f"{key}={foreign[key]!r}: only {known!r} is known for eSCN")
    degrees, orders = list(foreign.get("lmax_list", [6])), list(foreign.get("mmax_list", [2]))
    if len(degrees) != 1 or len(orders) != 1:
        raise ConfigError("EQ1421", f"lmax_list={degrees}, mmax_list={orders}: expected one resolution")
    for name in ("embedding.weight", "readout.points", "layers.0.message.edge.distance.weight"):
        if name not in arrays:
            raise PotentialError("EQ4347", f"weights: nothing becomes {name}; not an eSCN model, or not all of it")
    n_edge, n_basis = arrays["layers.0.message.edge.distance.weight"].shape
    resolution = foreign.get("resolution")
    network = SphereNetwork(
        r_max=float(foreign["cutoff"]),
        l_max=int(degrees[0]),
        m_max=int(orders[0]),
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
    unfilled = [name for name in constants if not name.endswith((".parts", ".place"))]
    if unfilled:
        raise PotentialError("EQ4348", f"weights: nothing becomes {', '.join(unfilled[:5])}; give the whole state dict")
    weights = {name: torch.tensor(np.asarray(array), dtype=torch.float64) for name, array in arrays.items()}
    try:
        network.load_state_dict(constants | weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise PotentialError("EQ4349", f"weights do not fit the configuration: {reason}") from error
    return network.requires_grad_(False)


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """A starting point for training: eqff's eSCN with the weights that have a counterpart.

    Taken over: embeddings of elements, real SO(2) maps (as the first units of the hidden layer), channel mixing of
    atoms, the energy head. Initialised anew: radial networks, gates, what else the hidden layer holds. Left out:
    imaginary SO(2) maps, which do not commute with reflections. Published energies are not reproduced.

    Args, Raises: as `published`
    Returns: Imported, float64
    """
    network = published(foreign, state)
    sources, head = cast(list[SphereLayer], list(network.layers)), network.readout.energy
    first = sources[0].message.sender
    n_hidden = first.scalar_in.weight.shape[0]
    n_elements, n_channels = network.embedding.weight.shape
    rows = min(first.l_max, first.l_max + 1 - first.m_max)  # degrees whose hidden units can stand for published ones
    fields = {
        "species": SYMBOLS[1:n_elements],
        "r_max": network.basis.r_max,
        "l_max": first.l_max,
        "m_max": first.m_max,
        "n_channels": n_channels,
        "n_hidden": max(n_channels, math.ceil(2 * n_hidden / rows)),
        "n_layers": len(sources),
        "readout_hidden": (n_channels, n_channels),
    }
    config = config_io.from_mapping(Config, fields, where="imported config")
    model = Model(config).to(torch.float64)
    with torch.no_grad():
        model.embedding.copy_(network.embedding.weight[1:])
        for layer, source in zip(cast(list[Interaction], list(model.layers)), sources, strict=True):
            fill_layer(layer, source)
        scales = (1.0 / math.sqrt(4.0 * math.pi), 1.0, network.readout.factor)
        linear = cast(list[ScalarLinear], [*model.readout_layers, model.output])
        for ours, theirs, scale in zip(linear, (head.first, head.second, head.third), scales, strict=True):
            ours.weight.copy_(theirs.weight.t() * (scale / ours.scale))
            if theirs.bias is not None:
                ours.bias.copy_(theirs.bias)
    return Imported(config, model)


def fill_layer(layer: Interaction, source: SphereLayer) -> None:
    """Real SO(2) maps and channel mixing of one layer; edge weights start near 1."""
    layer.radial.offset.fill_(1.0)
    layer.radial.weights[-1].mul_(0.1)
    n_channels, n_gates = layer.n_channels, layer.gate.n_gates
    for k, end in enumerate((source.message.sender, source.message.receiver)):
        blocks = cast(list[OrderBlock], list(end.orders))
        orders = [(order.real_in.weight, order.real_out.weight) for order in blocks]
        for m, (inward, outward) in enumerate([(end.scalar_in.weight, end.scalar_out.weight), *orders]):
            n_units = inward.shape[0]
            # behind the activated scalars, where units are only gated, at the start by about 1/2
            start = k * n_units + (layer.gate.n_channels if m == 0 else 0)
            units = slice(start, start + n_units)
            into = layer.linear_in.weights[m][:, n_gates if m == 0 else 0 :]
            into = into.unflatten(0, (-1, 2, n_channels))  # degree, end, channel
            into[:, 1 - k, :, units] = 0.0
            into[:, k, :, units] = inward.unflatten(1, (-1, n_channels)).permute(1, 2, 0) / layer.linear_in.scales[m]
            layer.linear_out.weights[m][units] = 2.0 * outward.t() / layer.linear_out.scales[m]
    mixing = source.mixing
    feed_in, feed_out = layer.feed_forward.linear_in, layer.feed_forward.linear_out
    feed_in.weight[:, :, :n_channels] = mixing.first.weight[:, n_channels:].t() / feed_in.scale
    feed_out.weight[:, :n_channels] = (mixing.third.weight @ mixing.second.weight).t() / feed_out.scale
