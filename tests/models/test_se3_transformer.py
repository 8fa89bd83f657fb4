"""What is the SE(3)-Transformer's own, its equations written out; the general exam is in tests/conformance."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from e3nn import o3
from toys import close, cluster, results, structure

from eqff.errors import ConfigError
from eqff.kernels import build
from eqff.models.se3_transformer import Config, Model, head_of_columns
from eqff.nn.fast.fused import fuse
from eqff.nn.fast.layers import spline_obstacle
from eqff.nn.fast.spline import tabulate
from eqff.nn.features import split_blocks

R_MAX = 3.0
SMALL = Config(
    species=("H", "C"), r_max=R_MAX, l_max=1, n_layers=2, n_channels=4, n_heads=2, radial_hidden=(8,),
    readout_hidden=(4,), avg_num_neighbors=4.0,
)  # fmt: skip
ROTATION = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
ROTATION *= np.sign(np.linalg.det(ROTATION))


def make(**fields):
    return Model(dataclasses.replace(SMALL, **fields)).to(torch.float64)


def on_edges(convolution, phi, f, senders, edge_vector, irreps):
    """W(x_j - x_i) f_j of every edge: for each output irrep a list over paths of [n_edges, 2l+1, n_channels]."""
    found, column = {block.irrep: [] for block in convolution.irreps_out}, 0
    for path in convolution.paths:
        block = irreps[path.block]
        Q = o3.wigner_3j(block.irrep.l, path.l_edge, path.irrep_out.l, dtype=torch.float64) * path.irrep_out.dim**0.5
        Y = o3.spherical_harmonics(path.l_edge, edge_vector, True, "component")
        product = torch.einsum("ijo,ej,eic->eoc", Q, Y, f[path.block][senders])
        found[path.irrep_out].append(product * phi[:, None, column : column + block.n_channels])
        column += block.n_channels
    assert column == phi.shape[1]
    return found


@pytest.mark.parametrize("smooth", [True, False])
def test_layer_is_the_papers_equation(smooth):
    """alpha_ij = softmax_j q_i . k_ij;  f_i <- self-interaction of f_i and sum_j alpha_ij W_V(x_j - x_i) f_j.

    Two heads: one has the first half of the channels of every path, the other one the second half.
    """
    model = make(l_max=2, n_layers=3, n_channels=(6, 4, 2), smooth_attention=smooth)
    layer, irreps = model.layers[1], model.layer_irreps[1]
    frame = structure(*cluster())
    senders, receivers = frame.senders, frame.receivers
    edge_vector = frame.positions[senders] - frame.positions[receivers]
    edges = model.geometry(edge_vector)
    h = torch.randn(7, sum(b.width for b in irreps), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    f = split_blocks(h, layer.shapes_in)
    with torch.no_grad():
        keys = on_edges(layer.keys.convolution, layer.keys.network(edges.radial), f, senders, edge_vector, irreps)
        score, length = torch.zeros(len(senders), 2, dtype=torch.float64), 0
        for query, paths in zip(layer.keys.queries(f), keys.values(), strict=True):
            n = [path.shape[2] for path in paths]
            for q, k in zip(query.split(n, 2), paths, strict=True):
                by_channel = (q[receivers] * k).sum(1)
                score += torch.stack([half.sum(1) for half in by_channel.chunk(2, 1)], 1)
                length += k.shape[1] * k.shape[2] // 2
        score /= math.sqrt(length)
        x = edge_vector.norm(dim=1, keepdim=True) / R_MAX
        weight = score.exp() * ((1 - 28 * x**6 + 48 * x**7 - 21 * x**8) if smooth else 1.0)
        total = torch.stack([weight[receivers == i].sum(0) for i in range(7)]) + (1.0 if smooth else 0.0)
        alpha = weight / total[receivers]

        values = on_edges(layer.values, layer.value_network(edges.radial), f, senders, edge_vector, irreps)
        messages = []
        for paths in values.values():
            weighted = [torch.cat([half * alpha[:, head, None, None] for head, half in enumerate(path.chunk(2, 2))], 2)
                        for path in paths]  # fmt: skip
            joined = torch.cat(weighted, 2)
            sums = torch.stack([joined[receivers == i].sum(0) for i in range(7)])
            messages.append(sums * math.sqrt(4.0))  # the root of avg_num_neighbors
        expected = layer.nonlinearity(layer.self_interaction(f, messages))
        computed = layer(h, frame.species, senders, receivers, edges)
    close(computed, torch.cat([block.flatten(1) for block in expected], 1), 1e-12)


@pytest.mark.usefixtures("float64_default")
def test_scores_are_invariant():
    model = make(l_max=2, n_layers=3)
    layer, irreps = model.layers[1], model.layer_irreps[1]
    frame = structure(*cluster())
    edge_vector = frame.positions[frame.senders] - frame.positions[frame.receivers]
    generator = torch.Generator().manual_seed(5)
    f = [torch.randn(7, b.irrep.dim, b.n_channels, dtype=torch.float64, generator=generator) for b in irreps]
    turn = torch.tensor(ROTATION)
    turned = [torch.einsum("mn,anc->amc", o3.Irrep(b.irrep.l, b.irrep.p).D_from_matrix(turn), x)
              for b, x in zip(irreps, f, strict=True)]  # fmt: skip

    def scores(features, vectors):
        edges = model.geometry(vectors)
        return layer.keys(features, edges.sh, edges.radial, frame.senders, frame.receivers)

    still = scores(f, edge_vector)
    assert float(still.detach().std()) > 1e-3
    close(scores(turned, edge_vector @ turn.t()), still, 1e-12)


def test_published_attention_jumps_where_a_neighbour_leaves_and_smooth_attention_does_not():
    positions, species = cluster()
    direction = np.array([0.6, 0.0, -0.8])
    outermost = positions[np.argmax(positions @ direction)]

    def jump(smooth):
        model = make(l_max=2, n_layers=3, smooth_attention=smooth)
        inside, outside = (
            results(model, np.vstack([positions, outermost + (R_MAX + step) * direction]), [*species, 1]).energy
            for step in (-1e-4, 1e-4)
        )
        return abs(float(inside - outside))

    assert jump(smooth=True) < 1e-9
    assert jump(smooth=False) > 1e-5


def test_heads_share_channels():
    assert head_of_columns(6, 2, 3).tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_a_dimer_comes_apart_smoothly():
    """Nothing is normalised away when the last neighbour leaves: the force goes to zero with the envelope."""
    model = make(l_max=2)
    forces = [float(results(model, [[0, 0, 0], [0, 0, r]], [0, 1]).forces.abs().max()) for r in (2.5, 2.9, 2.999)]
    assert forces[0] > forces[1] > forces[2]
    assert forces[2] < 1e-6 * forces[0]


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
def test_kernels_stand_in_and_splines_do_not():
    model = make()
    positions, species = cluster()
    exact, fused = results(model, positions, species), results(fuse(copy.deepcopy(model)), positions, species)
    close(fused.energies, exact.energies, 1e-12)
    close(fused.forces, exact.forces, 1e-11)
    assert spline_obstacle(model)
    with pytest.raises(ConfigError, match="EQ1090"):  # weights of a convolution depend on features, too
        tabulate(model, 0.5, 64)
