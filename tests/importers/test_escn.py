"""The published eSCN as a starting point; its own network is tested in tests/nn/test_sphere_network.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eqff.errors import ConfigError, PotentialError
from eqff.importers.escn import FAMILY, POTENTIAL_REFUSED, convert, published

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
FILES = sorted(GOLDEN.glob("escn_*.npz"))
if not FILES:
    pytest.skip(f"no golden files of eSCN in {GOLDEN}", allow_module_level=True)


def source_of(path):
    """Foreign configuration and state dict."""
    with np.load(path, allow_pickle=False) as file:
        state = {name[2:]: file[name] for name in file.files if name.startswith("w/")}
        return json.loads(str(file["config"])), state


def test_the_reason_for_refusing_a_potential_is_said():
    assert FAMILY == "escn"
    for word in ("directly", "random", "cut-off", "cap of neighbours", "starting point"):
        assert word in POTENTIAL_REFUSED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_to_train_with_the_weights_that_have_a_counterpart(path):
    foreign, state = source_of(path)
    config, model = convert(foreign, state)
    network = published(foreign, state)
    assert (config.l_max, config.m_max) == (foreign["lmax_list"][0], foreign["mmax_list"][0])
    assert (config.n_layers, config.n_channels) == (foreign["num_layers"], foreign["sphere_channels"])
    assert model.symmetry == "O(3)"
    torch.testing.assert_close(model.embedding.double(), network.embedding.weight[1:])
    # in the frame of an edge, with edge weights 1 and gates 1/2, hidden units give the published real maps
    layer, source = model.layers[0], network.layers[0].message
    x = torch.randn(5, 2, config.l_max, config.n_channels, generator=torch.Generator().manual_seed(0)).double()
    ends = torch.zeros(5, 2, config.l_max, 2, config.n_channels).double()  # m = 1: +-, degree, end, channel
    for k, end in enumerate((source.sender, source.receiver)):
        ends.zero_()[:, :, :, k] = x
        order, n_units = end.orders[0], end.orders[0].real_in.weight.shape[0]
        units = slice(k * n_units, (k + 1) * n_units)
        hidden = (ends.flatten(2) @ layer.linear_in.weights[1] * layer.linear_in.scales[1])[:, :, units]
        torch.testing.assert_close(hidden, order.real_in(x.flatten(2)), rtol=0, atol=1e-12)
        out = 0.5 * hidden @ layer.linear_out.weights[1][units] * layer.linear_out.scales[1]
        torch.testing.assert_close(out, order.real_out(hidden), rtol=0, atol=1e-12)


def test_it_trains(tmp_path):
    """Finite energies and gradients of all weights from the first step on."""
    _, model = convert(*source_of(FILES[0]))
    with np.load(FILES[0], allow_pickle=False) as file:
        senders, receivers = torch.tensor(file["in/edge_index"])
        positions, numbers = torch.tensor(file["in/pos"], requires_grad=True), torch.tensor(file["in/numbers"])
    energy = model(numbers - 1, senders, receivers, positions[senders] - positions[receivers]).sum()
    (forces,) = torch.autograd.grad(energy, positions, create_graph=True)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(forces.square().sum(), weights, allow_unused=True)
    assert float(forces.detach().abs().max()) > 0.0
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients if gradient is not None)


def test_wrapped_names():
    foreign, state = source_of(FILES[0])
    wrapped = published(foreign, {f"module.module.{name}": array for name, array in state.items()})
    for one, other in zip(published(foreign, state).parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(one, other)


def without(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}


REFUSED = {
    "EQ1420": lambda config, state: (config | {"distance_function": "sigmoid"}, state),
    "EQ1421": lambda config, state: (config | {"lmax_list": [2, 4]}, state),
    "EQ4347": lambda config, state: (config, without(state, "sphere_embedding.weight")),
    "EQ4348": lambda config, state: (config, without(state, "force_block.fc1.bias")),
    "EQ4349": lambda config, state: (config, state | {"energy_block.fc1.bias": np.zeros(3)}),
    "EQ4349, left over": lambda config, state: (config, state | {"charge": np.zeros(3)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    foreign, state = REFUSED[case](*source_of(FILES[0]))
    with pytest.raises((ConfigError, PotentialError), match=case.split(",")[0]):
        convert(foreign, state)
