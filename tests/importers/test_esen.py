"""eSEN's weights: golden files layer by layer, energies and forces; everything without a counterpart is refused."""

import json

import numpy as np
import pytest
import torch
from toys import GOLDEN

from eqff.errors import ConfigError, PotentialError
from eqff.importers.esen import FAMILY, convert
from eqff.nn.edge_rotation import EdgeRotation

FILES = sorted(GOLDEN.glob("esen_*.npz"))
if not FILES:
    pytest.skip(f"no golden files of eSEN in {GOLDEN}", allow_module_level=True)


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def source_of(golden):
    """Foreign configuration and state dict."""
    state = {name[2:]: array for name, array in golden.items() if name.startswith("w/")}
    return json.loads(str(golden["config"])), state


def inputs_of(golden):
    senders, receivers = torch.tensor(golden["in/edge_index"])
    positions = torch.tensor(golden["in/pos"], requires_grad=True)
    return positions, (
        torch.tensor(golden["in/numbers"]) - 1,
        senders,
        receivers,
        positions[senders] - positions[receivers],
    )


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    return read(request.param)


def test_golden_energy_and_forces(golden):
    imported = convert(*source_of(golden))
    positions, arguments = inputs_of(golden)
    energy = imported.model(*arguments).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    assert float(energy.detach()) == pytest.approx(float(golden["out/total_energy"][0]), abs=1e-10)
    np.testing.assert_allclose(-gradient.numpy(), golden["out/forces"], rtol=0, atol=1e-10)


def test_golden_layer_by_layer(golden):
    """Own frames, not the stored random ones: features of atoms do not know the frames."""
    config, model = convert(*source_of(golden))
    _, (species, senders, receivers, edge_vector) = inputs_of(golden)
    geometry = model.geometry(edge_vector)
    h = model.embed(species, senders, receivers, geometry)
    stored = ["edge_degree_embedding", *[f"blocks.{k}" for k in range(config.n_layers)]]
    for k, name in enumerate(stored):
        h = model.interact(k, h, species, senders, receivers, geometry)
        expected = golden[f"mid/{name}"]
        np.testing.assert_allclose(h.detach().numpy().reshape(expected.shape), expected, rtol=0, atol=1e-12)
    normed = model.norm(h.view(len(species), -1, config.n_channels))
    np.testing.assert_allclose(normed.detach().numpy(), golden["mid/norm"], rtol=0, atol=1e-12)


def test_stored_frames_give_the_same_energy(golden):
    """The roll of frames does not matter: theirs are random."""
    config, model = convert(*source_of(golden))
    _, arguments = inputs_of(golden)
    frames = torch.tensor(golden["in/edge_rot_mat"])

    class Stored(torch.nn.Module):
        def forward(self, direction):
            return EdgeRotation(config.l_max, config.m_max).rows(frames)

    own = model(*arguments)
    model.rotation = Stored()
    torch.testing.assert_close(model(*arguments), own, rtol=0, atol=1e-13)


def test_the_family_is_named():
    assert FAMILY == "escn"


def test_names_with_longer_prefixes_and_a_nested_configuration():
    """As in fairchem's checkpoints: a wrapped backbone, heads under their own name, constants beside the weights."""
    golden = read(FILES[0])
    foreign, state = source_of(golden)
    renamed = {f"module.{name.replace('head.', 'output_heads.energy.')}": array for name, array in state.items()}
    renamed["module.backbone.SO3_grid.lmax_lmax.to_grid_mat"] = np.zeros(3)
    one, other = convert(foreign, state), convert({"backbone": foreign}, renamed)
    assert one.config == other.config
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_normalisers_become_scale_and_reference_energies():
    golden = read(FILES[0])
    foreign, state = source_of(golden)
    references = np.linspace(-1.0, -400.0, len(state["backbone.sphere_embedding.weight"]))
    more = {"normalizers.energy.rmsd": np.array(2.5), "normalizers.energy.mean": np.array(0.0)}
    more["elementrefs.energy.element_references"] = references
    imported = convert(foreign, state | more)
    _, arguments = inputs_of(golden)
    expected = 2.5 * convert(foreign, state).model(*arguments) + torch.tensor(references[golden["in/numbers"]])
    torch.testing.assert_close(imported.model(*arguments), expected, rtol=0, atol=1e-11)
    with pytest.raises(PotentialError, match="EQ4344"):
        convert(foreign, state | more | {"normalizers.energy.mean": np.array(1.0)})
    with pytest.raises(PotentialError, match="EQ4345"):
        convert(foreign, state | {"elementrefs.energy.element_references": references[:4]})


def test_without_imaginary_weights_the_model_is_o3():
    golden = read(FILES[0])
    foreign, state = source_of(golden)
    for name in [name for name in state if ".so2_m_conv." in name]:
        state[name] = state[name].copy()
        state[name][len(state[name]) // 2 :] = 0.0
    config, model = convert(foreign, state)
    assert config.symmetry == model.symmetry == "O(3)"
    _, (species, senders, receivers, edge_vector) = inputs_of(golden)
    energies = [model(species, senders, receivers, sign * edge_vector).detach() for sign in (1.0, -1.0)]
    torch.testing.assert_close(*energies, rtol=0, atol=1e-13)


def without(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}


REFUSED = {
    "EQ1088": lambda config, state: (without(config, "act_type"), state),
    "EQ1089": lambda config, state: (config | {"act_type": "s2"}, state),
    "EQ1089, direct forces": lambda config, state: (config | {"direct_forces": True}, state),
    "EQ1936, neighbour cap": lambda config, state: (config | {"max_neighbors": 20}, state),
    "EQ4340": lambda config, state: (config, {}),
    "EQ4303": lambda config, state: (config, without(state, "backbone.blocks.1.norm_2.affine_bias")),
    "EQ4304": lambda config, state: (config, state | {"backbone.charge_embedding.weight": np.zeros(3)}),
    "EQ4343": lambda config, state: (config | {"num_layers": 7}, state),
    "EQ4346": lambda config, state: (config, state | {"backbone.norm.affine_bias": np.zeros(3)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    foreign, state = REFUSED[case](*source_of(read(FILES[0])))
    with pytest.raises((ConfigError, PotentialError), match=case.split(",")[0]):
        convert(foreign, state)
