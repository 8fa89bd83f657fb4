"""The published eSCN against stored results of its own code: every layer, the energy, the direct forces."""

import json

import numpy as np
import pytest
import torch
from toys import GOLDEN

from eqff.nn.edge_rotation import EdgeRotation
from eqff.o3.edge_frames import helper_axis_frame
from eqff.o3.wigner import order_rows

from .sphere_network import our_name, published

FILES = sorted(GOLDEN.glob("escn_*.npz"))
if not FILES:
    pytest.skip(f"no golden files of eSCN in {GOLDEN}", allow_module_level=True)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param, allow_pickle=False) as file:
        return dict(file)


def network_of(golden):
    state = {name[2:]: array for name, array in golden.items() if name.startswith("w/")}
    return published(json.loads(str(golden["config"])), state)


def inputs_of(golden):
    senders, receivers = torch.tensor(golden["in/edge_index"])
    positions = torch.tensor(golden["in/pos"])
    edge_vector = positions[senders] - positions[receivers]
    return torch.tensor(golden["in/numbers"]), senders, receivers, edge_vector


def by_degree(rows, l_max, m_max):
    """Rows by order -> rows by degree."""
    order = order_rows(l_max, m_max)
    return rows[:, sorted(range(len(order)), key=order.__getitem__)]


def outputs_of(network, arguments):
    """Module name -> its output."""
    outputs = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out))
    energy, forces = network(*arguments)
    return outputs, energy, forces


def test_every_layer_energy_and_direct_forces(golden):
    network = network_of(golden)
    outputs, energy, forces = outputs_of(network, (*inputs_of(golden), torch.tensor(golden["in/edge_rot_mat"])))
    l_max, m_max = network.layers[0].message.sender.l_max, network.layers[0].message.sender.m_max
    outputs["distance_expansion"] = outputs["basis"]
    seen = 0
    for stored in (name for name in golden if name.startswith("mid/")):
        name = our_name(stored[4:])
        if stored in ("mid/act", "mid/wigner"):  # a shared activation; the matrix has a test of its own
            continue
        found = outputs[name]
        if name in ("readout.energy", "readout.forces"):  # theirs average over the points
            weight = network.readout.points if name.endswith("forces") else 1.0
            found = (found * weight).mean(1)
        elif name.endswith(("message.sender", "message.receiver")):
            found = by_degree(found, l_max, m_max)
        np.testing.assert_allclose(found.numpy().reshape(golden[stored].shape), golden[stored], rtol=0, atol=1e-13)
        seen += 1
    assert seen > 25 * len(network.layers)
    assert float(energy.sum()) == pytest.approx(float(golden["out/total_energy"][0]), abs=1e-15)
    np.testing.assert_allclose(forces.numpy(), golden["out/forces_direct"], rtol=0, atol=1e-14)


def test_wigner_matrices_and_grids_of_the_original(golden):
    network = network_of(golden)
    config = json.loads(str(golden["config"]))
    l_max = config["lmax_list"][0]
    rows = EdgeRotation(l_max, l_max).rows(torch.tensor(golden["in/edge_rot_mat"]))
    np.testing.assert_allclose(by_degree(rows, l_max, l_max).numpy(), golden["mid/wigner"], rtol=0, atol=1e-13)
    for name, grid in (("lmax_mmax", network.layers[0].message.grid), ("lmax_lmax", network.layers[0].mixing.grid)):
        for kind in ("to_grid", "from_grid"):
            stored = golden[f"const/{name}/{kind}"]
            assert grid.shape == stored.shape[:2]
            own = getattr(grid, kind)().numpy().reshape(stored.shape)
            np.testing.assert_allclose(own, stored, rtol=0, atol=1e-14)


def test_it_is_no_potential(golden):
    """Its energy depends on the roll of frames, its forces are not the gradient: why it is not imported."""
    network = network_of(golden)
    numbers, senders, receivers, edge_vector = inputs_of(golden)
    frames = helper_axis_frame(torch.nn.functional.normalize(edge_vector, dim=1))
    stored, forces = network(numbers, senders, receivers, edge_vector, torch.tensor(golden["in/edge_rot_mat"]))
    rolled, _ = network(numbers, senders, receivers, edge_vector, frames)
    difference = float((stored.sum() - rolled.sum()).abs() / stored.sum().abs())
    assert difference < 1e-2
    if json.loads(str(golden["config"]))["resolution"] is None:  # a finer grid hides it
        assert difference > 1e-12
    positions = torch.tensor(golden["in/pos"], requires_grad=True)
    edge_vector = positions[senders] - positions[receivers]
    frames = helper_axis_frame(torch.nn.functional.normalize(edge_vector, dim=1))
    energy = network(numbers, senders, receivers, edge_vector, frames)[0].sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    assert float((gradient + forces).abs().max()) > 0.1 * float(forces.abs().max())
