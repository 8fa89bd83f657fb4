"""What is the Tensor Field Network's own, its equation written out; the general exam is in tests/conformance."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from e3nn import o3
from toys import close, cluster, results, structure

from eqff.kernels import build
from eqff.models.tfn import Config, Model
from eqff.nn.fast.fused import fuse
from eqff.nn.fast.spline import tabulate
from eqff.nn.features import split_blocks
from eqff.o3.irreps import to_text

R_MAX = 3.0
SMALL = Config(
    species=("H", "C"), r_max=R_MAX, l_max=1, n_layers=2, n_channels=4, radial_hidden=(8,), readout_hidden=(4,),
    avg_num_neighbors=4.0,
)  # fmt: skip


def make(**fields):
    return Model(dataclasses.replace(SMALL, **fields)).to(torch.float64)


def test_layer_is_the_papers_equation():
    """L_acm = sum_b sum_(m_f, m_i) C R_c^(l_f, l_i)(r_ab) Y_m_f(r_ab) V_bcm_i, edge by edge; paths concatenated, mixed
    with the atom's own features, and activated."""
    model = make(l_max=2, parity="both", n_layers=3, n_channels=(3, 2, 2))
    layer, irreps = model.layers[1], model.layer_irreps[1]
    frame = structure(*cluster())
    edge_vector = frame.positions[frame.senders] - frame.positions[frame.receivers]
    edges = model.geometry(edge_vector)
    h = torch.randn(7, sum(b.width for b in irreps), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    V = split_blocks(h, layer.shapes_in)
    with torch.no_grad():
        filters = layer.radial.network(edges.radial)  # all R, next to each other: input irrep outer, l_f inner
        sums, column = {}, 0
        for block, x in zip(irreps, V, strict=True):
            for l_f in range(3):
                n = block.n_channels
                outputs = [
                    b.irrep for b in layer.irreps_out if b.irrep in block.irrep.product(type(b.irrep)(l_f, (-1) ** l_f))
                ]
                if not outputs:
                    continue
                R = filters[:, column : column + n]
                column += n
                for out in outputs:
                    C = o3.wigner_3j(block.irrep.l, l_f, out.l, dtype=torch.float64) * math.sqrt(out.dim)
                    total = torch.zeros(7, out.dim, n, dtype=torch.float64)
                    for e, (b, a) in enumerate(zip(frame.senders, frame.receivers, strict=True)):
                        Y = o3.spherical_harmonics(l_f, edge_vector[e], True, "component")
                        total[a] += R[e] * torch.einsum("ifo,f,ic->oc", C, Y, x[b])
                    sums[block.irrep, l_f, out] = total / math.sqrt(4.0)
        assert column == filters.shape[1]
        messages = []
        for out in (block.irrep for block in layer.convolution.irreps_out):
            keys = [(b.irrep, l_f, out) for b in irreps for l_f in range(3) if (b.irrep, l_f, out) in sums]
            messages.append(torch.cat([sums[key] for key in keys], 2))
        expected = layer.nonlinearity(layer.self_interaction(V, messages))
        computed = layer(h, frame.species, frame.senders, frame.receivers, edges)
    close(computed, torch.cat([x.flatten(1) for x in expected], 1), 1e-12)


def test_a_filter_serves_all_outputs_of_its_degrees():
    layer = make(l_max=2, n_layers=3).layers[1]
    weights = layer.radial(torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    columns = weights.split([4] * len(layer.convolution.paths), 1)
    same = [(p, q) for p in range(len(columns)) for q in range(p)
            if layer.convolution.paths[p][:2] == layer.convolution.paths[q][:2]]  # fmt: skip
    equal = [(p, q) for p in range(len(columns)) for q in range(p) if torch.equal(columns[p], columns[q])]
    assert equal == same != []


def test_forces_where_features_vanish_by_symmetry():
    """At the centre of an octahedron every vector is exactly zero: forces are, and energies are smooth around it."""
    model = make(l_max=2, n_layers=3)
    species = [1, 0, 0, 0, 0, 0, 0]

    def along(shift):
        positions = np.vstack([np.zeros((1, 3)), 1.1 * np.eye(3), -1.1 * np.eye(3)])
        positions[0, 0] = shift
        return results(model, positions, species)

    close(along(0.0).forces[0], torch.zeros(3, dtype=torch.float64), 1e-12)
    step = 1e-4
    slope = (along(step).forces[0, 0] - along(-step).forces[0, 0]) / (2 * step)  # force constant
    half = (along(step / 2).forces[0, 0] - along(-step / 2).forces[0, 0]) / step
    assert float(slope) == pytest.approx(float(half), rel=1e-4)


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
def test_kernels_and_splines_stand_in():
    model = make(n_channels=3)
    positions, species = cluster()
    exact = results(model, positions, species)
    fused = results(fuse(copy.deepcopy(model)), positions, species)
    close(fused.energies, exact.energies, 1e-12)
    close(fused.forces, exact.forces, 1e-11)
    splines = results(tabulate(copy.deepcopy(model), 0.5, 128), positions, species)
    close(splines.forces, exact.forces, 1e-6)


def test_only_reachable_irreps_exist():
    layers = [to_text(irreps) for irreps in make(parity="both", l_max=2, n_layers=3).layer_irreps]
    assert layers == ["4x0e", "4x0e + 4x1o + 4x2e", "4x0e + 4x1e + 4x1o + 4x2e + 4x2o", "4x0e"]
