"""Foreign weights give foreign numbers: golden files layer by layer, an oracle made of e3nn, and everything refused."""

import functools

import numpy as np
import pytest
import torch
from toys import GOLDEN

from eqff.errors import ConfigError, EqffError, PotentialError
from eqff.graph import Structure, edge_vectors
from eqff.importers._e3nn import radial_columns
from eqff.importers._source import read
from eqff.importers.nequip import convert
from eqff.nn.features import split_blocks
from eqff.potential import GradientEvaluator, energy_forces_stress

FILES = sorted(GOLDEN.glob("nequip*.npz"))
if not FILES:
    FILES = [pytest.param(None, marks=pytest.mark.skip(reason=f"golden files of nequip are not at {GOLDEN}"))]
golden = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem if path else "none")


def golden_source(path):
    """Configuration and weights."""
    source = read(path)
    return {"nequip_version": source.versions["nequip"]} | source.config, source.state


def close(one, other, tolerance=1e-10):
    torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=tolerance)


def structure_of(file):
    """nequip's edge_index is (receiver, sender)."""
    positions, types = torch.tensor(file["in/pos"]), torch.tensor(file["in/atom_types"]).reshape(-1)
    receivers, senders = torch.tensor(file["in/edge_index"])
    pbc = torch.tensor(file["in/pbc"]) if "in/pbc" in file.files else torch.zeros(3, dtype=torch.bool)
    cell = torch.tensor(file["in/cell"]).reshape(3, 3) if "in/cell" in file.files else torch.zeros(3, 3).double()
    shift = torch.zeros(len(senders), 3, dtype=torch.int64)
    if "in/edge_cell_shift" in file.files:
        shift = torch.tensor(file["in/edge_cell_shift"]).round().long()
    batch = torch.zeros(len(positions), dtype=torch.int64)
    return Structure(positions, types, cell[None], pbc[None], batch, 1, senders, receivers, shift)


@golden
def test_golden_energy_forces_virial(path):
    file, imported = np.load(path), convert(*golden_source(path))
    result = energy_forces_stress(GradientEvaluator(imported.model), structure_of(file))
    close(result.energy, file["out/total_energy"].reshape(-1))
    close(result.energies, file["out/atomic_energy"].reshape(-1))
    close(result.forces, file["out/forces"])
    if "out/virial" in file.files:
        close(result.strain_gradient[0], -file["out/virial"].reshape(3, 3))


def as_e3nn(blocks, irreps, stored_sorted=False):
    """Blocks [n_atoms, 2l+1, n_channels] -> [n_atoms, sum n_channels (2l+1)], channels first; e3nn sorts sums."""
    order = sorted(range(len(blocks)), key=lambda k: irreps[k].irrep) if stored_sorted else range(len(blocks))
    return torch.cat([blocks[k].transpose(1, 2).flatten(1) for k in order], 1)


@golden
def test_golden_layer_by_layer(path):
    file, model = np.load(path), convert(*golden_source(path)).model
    seen = []

    def compare(name, ours):
        if f"mid/{name}" in file.files:
            close(ours.detach(), file[f"mid/{name}"], 1e-12)
            seen.append(name)

    frame = structure_of(file)
    species, senders, receivers = frame.species, frame.senders, frame.receivers
    geometry = model.geometry(edge_vectors(frame))
    compare("layer0_convnet/edge_attrs", geometry[0])
    compare("layer0_convnet/edge_embedding", geometry[1])
    h = model.embed(species, senders, receivers, geometry)
    for name in ("factor", "chemical_embedding"):  # the last modules before the layers
        compare(f"{name}/node_features", h)
    for k, layer in enumerate(model.layers):
        inside = f"sub/model.func.layer{k}_convnet.conv."
        blocks = split_blocks(h, layer.shapes_in)
        norm = layer.sender_norm()[species][:, None, None]
        up = layer.linear_up(blocks)
        compare(f"{inside}linear_1", as_e3nn(up, layer.irreps_in))
        weight = layer.radial(geometry[1])
        theirs = torch.empty_like(weight)
        theirs[:, radial_columns(layer)] = weight
        compare(f"{inside}edge_mlp", theirs)
        sums = layer.convolution([x * norm for x in up], geometry[0], weight, senders, receivers)
        compare(f"{inside}tp_scatter", as_e3nn(sums, layer.convolution.irreps_out, stored_sorted=True))
        down = layer.linear_down(sums)
        compare(f"{inside}linear_2", as_e3nn(down, layer.gate.irreps_in, stored_sorted=True))
        if layer.self_connection is not None:
            own = layer.self_connection(blocks, species, [torch.zeros_like(x) for x in down])
            compare(f"{inside}sc", as_e3nn(own, layer.gate.irreps_in, stored_sorted=True))
        h = model.interact(k, h, species, senders, receivers, geometry)
        shapes = [(block.irrep.dim, block.n_channels) for block in layer.irreps_out]
        compare(f"layer{k}_convnet/node_features", as_e3nn(split_blocks(h, shapes), layer.irreps_out))
    x = model.features(h)
    compare("conv_to_output_hidden/node_features", model.readout_layers[0](x))
    compare("per_atom_energy_readout/atomic_energy", model.readout_layers[0](x))
    assert len(seen) >= len(model.layers) + 3


CASES = {  # hidden, edge, n_layers, n_embedding, radial, readout, neighbors, published
    "natural": ("5x0e+3x1o+2x2e", "0e+1o+2e", 3, 5, [6], [], 7.0, False),
    "both, own order": ("3x1e+4x0e+2x0o+2x1o", "0e+1o", 3, 6, [6, 4], [5, 3], [4.0, 9.0, 6.0], False),
    "edges below features": ("3x0e+2x1o+2x2e", "0e+1o", 3, 2, [], [4], 3.0, False),
    "published, paper order": ("3x0o+4x0e+2x1o+3x1e", "0e+1o", 3, 5, [6, 6], [2], 8.0, True),
    "published, all even": ("4x0e+3x1e", "0e+1e", 2, 4, [], [3], None, True),
}


def random_edges(seed=0, n_atoms=6, n_edges=24):
    generator = torch.Generator().manual_seed(seed)
    species = torch.randint(0, 3, (n_atoms,), generator=generator)
    senders, receivers = torch.randint(0, n_atoms, (2, n_edges), generator=generator)
    edge_vector = 1.5 * torch.randn(n_edges, 3, dtype=torch.float64, generator=generator)  # some beyond r_max
    return species, senders, receivers, edge_vector.requires_grad_(True)


def assert_same(model, oracle, factor=1.0):
    """Energies and their gradient with respect to edge vectors."""
    arguments = random_edges()
    ours, theirs = model(*arguments), factor * oracle(*arguments)
    close(ours.detach(), theirs.detach(), 1e-11)
    gradients = [torch.autograd.grad(energies.sum(), arguments[3])[0] for energies in (ours, theirs)]
    assert float(gradients[1].abs().max()) > 1e-3
    close(*gradients, 1e-11)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_oracle_of_e3nn(make_oracle, case):
    hidden, edge, n_layers, n_embedding, radial, readout, neighbors, published = case
    degree = 1.0 if neighbors is None else neighbors
    oracle = make_oracle(hidden, edge, n_layers, n_embedding, radial, readout, degree, published)
    imported = convert(
        oracle.config | {"avg_num_neighbors": None} if neighbors is None else oracle.config, oracle.state()
    )
    assert imported.config.architecture == ("published" if published else "current")
    assert_same(imported.model, oracle)


def current(make_oracle, hidden="3x0e+2x1o", edge="0e+1o", readout=()):
    return make_oracle(hidden, edge, 2, 3, [4], list(readout), 5.0, False)


def published(make_oracle, hidden="4x0e+4x1e+4x0o+4x1o"):
    return make_oracle(hidden, "0e+1o", 2, 4, [4], [2], 5.0, True)


def test_simple_options_current(make_oracle):
    """l_max, parity and num_features are degree outer, even first."""
    config = {"l_max": 1, "num_layers": 2, "r_max": 4.0, "num_bessels": 5, "avg_num_neighbors": 5.0}
    both = current(make_oracle, "3x0e+3x0o+2x1e+2x1o")
    assert_same(convert(config | {"parity": True, "num_features": [3, 2]}, both.state()).model, both)
    natural = current(make_oracle)
    assert_same(convert(config | {"parity": False, "num_features": [3, 2]}, natural.state()).model, natural)


def test_simple_options_before_0_16(make_oracle):
    """Parity outer; and without parity everything is even, vectors too."""
    config = {"l_max": 1, "num_layers": 2, "r_max": 4.0, "num_bessels": 5, "avg_num_neighbors": 5.0,
              "num_features": 3, "nequip_version": "0.13.0"}  # fmt: skip
    both = current(make_oracle, "3x0e+3x1e+3x0o+3x1o")
    assert_same(convert(config | {"parity": True}, both.state()).model, both)
    even = current(make_oracle, "3x0e+3x1e", "0e+1e")
    assert_same(convert(config | {"parity": False}, even.state()).model, even)


def test_simple_options_published(make_oracle):
    oracle = published(make_oracle)
    config = {"l_max": 1, "parity": True, "num_features": 4, "num_layers": 2, "r_max": 4.0, "num_basis": 5,
              "avg_num_neighbors": 5.0, "chemical_symbols": ["O", "H", "C"]}  # fmt: skip
    imported = convert(config, oracle.state())
    assert imported.config.species == ("H", "C", "O")  # by atomic number, whatever the order in the file
    assert_same(imported.model, oracle)


def test_global_scale_and_longer_prefix(make_oracle):
    """RescaleOutput and StressOutput wrap the network; the scale multiplies energies, references too."""
    oracle = published(make_oracle)
    state = {f"model.{name}": array for name, array in oracle.state().items()}
    state |= {"model.scale_by": np.array(2.5), "model.shift_by": np.zeros(0)}
    assert_same(convert(oracle.config, state).model, oracle, factor=2.5)


def test_readout_without_activation(make_oracle):
    """nequip multiplies such matrices up, without the gain that stands for the activation."""
    oracle = current(make_oracle)
    state, prefix = oracle.state(), "model.func.per_atom_energy_readout.mlp_module.mlp"
    first, second = np.random.default_rng(0).normal(size=(3, 4)), np.ones((4, 1))
    state.pop(f"{prefix}.0.weight")
    state |= {f"{prefix}.weights.0": first, f"{prefix}.weights.1": second}
    oracle.readout[0].data = torch.tensor(first @ second / 2.0)  # 1 / sqrt(4)
    assert_same(convert(oracle.config | {"readout_mlp_nonlinearity": None}, state).model, oracle)


def test_presets_are_known(make_oracle):
    _, state = files(current, make_oracle)
    with pytest.raises(EqffError, match=r"missing|expected|explains"):  # S is much larger than this state
        convert({"preset": "S", "r_max": 4.0, "num_bessels": 5, "avg_num_neighbors": 5.0}, state)
    with pytest.raises(ConfigError, match="EQ1930"):
        convert({"preset": "XS", "r_max": 4.0}, state)


@functools.cache
def files(make, make_oracle):
    """Configuration and state of a small model, made once for all that is refused."""
    oracle = make(make_oracle)
    return oracle.config, oracle.state()


LAYER = "model.func.layer1_convnet.conv."


@pytest.mark.parametrize("published", [True, False])
def test_couplings_of_another_sign(make_oracle, published):
    """Weights that were trained with another release of e3nn; every symmetry would hold with the wrong sign, too."""
    hidden, edge = ("4x0e+3x1e", "0e+1e") if published else ("4x0e+3x1o+3x1e", "0e+1o")
    oracle = make_oracle(hidden, edge, 4, 4, [], [3], 5.0, published)
    before = oracle(*random_edges()).detach()
    flipped = [
        buffer for name, buffer in oracle.named_buffers() if name.startswith("layers.2.") and "_w3j_1_1_1" in name
    ]
    for buffer in flipped:
        buffer.neg_()
    assert flipped
    assert float((oracle(*random_edges()).detach() - before).abs().max()) > 1e-8
    assert_same(convert(oracle.config, oracle.state()).model, oracle)


DAMAGE = {
    "nothing of NequIP": ("EQ4302", lambda state: {"weight": np.ones(3)}),
    "missing": ("EQ4303", lambda state: {k: v for k, v in state.items() if k != LAYER + "linear_2.weight"}),
    "left over": ("EQ4304", lambda state: state | {"model.func.pair_potential.charge": np.ones(2)}),
    "bias": ("EQ4304", lambda state: state | {LAYER + "linear_1.bias": np.ones(3)}),
    "no radial network": ("EQ4305", lambda state: {k: v for k, v in state.items() if LAYER + "edge_mlp" not in k}),
    "too few numbers": ("EQ4306", lambda state: state | {LAYER + "linear_1.weight": np.ones(3)}),
    "too many numbers": ("EQ4306", lambda state: state | {LAYER + "sc.weight": np.ones(3000)}),
    "radial columns": ("EQ4307", lambda state: state | {LAYER + "edge_mlp.mlp.2.weight": np.ones((4, 1))}),
    "basis": ("EQ4307", lambda state: state | {"model.func.bessel_encode.bessel_weights": np.ones((1, 8))}),
    "scales": ("EQ4921", lambda state: state | {"model.func.per_type_energy_scale_shift.scales": np.ones((2, 1))}),
    "cut-off": ("EQ4308", lambda state: state | {"model.func.edge_norm._rmax_recip": np.array(0.3)}),
    "cut-off per pair": ("EQ4304", lambda state: state | {"model.func.edge_norm._rmax_recip": np.full(9, 0.25)}),
}


@pytest.mark.parametrize(("id", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_weights_that_do_not_fit(make_oracle, id, damage):
    config, state = files(current, make_oracle)
    with pytest.raises(PotentialError, match=id):
        convert(config, damage(state))


OPTIONS = {
    "EQ1080": [
        {"convnet_resnet": True}, {"convnet_sc": False}, {"learnable_shift": True}, {"pair_potential": {"a": 1}},
        {"per_edge_type_cutoff": {"H": 2.0}}, {"convnet_nonlinearity_type": "norm"},
        {"readout_mlp_nonlinearity": "mish"}, {"convnet_nonlinearity_scalars": {"e": "ssp", "o": "tanh"}},
        {"categorical_graph_field_embed": [{"field": "charge"}]},
    ],
    "EQ1932": [{"convnet_nonlinearity_gates": {"e": "tanh", "o": "tanh"}}],
    "EQ1933": [{"polynomial_cutoff_p": 4.5}],
    "EQ1934": [{"avg_num_neighbors": "auto"}],
    "EQ1935": [{"type_names": ["H", "C"]}],
    "EQ1081": [{"avg_num_neighbors": {"H": 3.0}}],
    "EQ1082": [{"irreps_edge_sh": "0e+2e"}, {"irreps_edge_sh": "0e+1o+2o"}, {"irreps_edge_sh": "2x0e+1o"}],
    "EQ1083": [{"feature_irreps_hidden": ["3x0e+2x1o", "4x0e"]}, {"feature_irreps_hidden": ["3x0e", "2x0e", "3x0e"]}],
    "EQ1003": [{"type_names": ["H", "C", "Ox"]}],
}  # fmt: skip


@pytest.mark.parametrize(("id", "option"), [(id, option) for id in OPTIONS for option in OPTIONS[id]], ids=str)
def test_options_without_counterpart(make_oracle, id, option):
    """Silently ignoring any of these gives a potential with other energies."""
    config, state = files(current, make_oracle)
    with pytest.raises(ConfigError, match=id):
        convert(config | option, state)


PUBLISHED_OPTIONS = {
    "EQ1080": [
        {"use_sc": False}, {"resnet": True}, {"nonlinearity_type": "norm"},
        {"nonlinearity_scalars": {"e": "ssp", "o": "tanh"}}, {"edge_sh_normalization": "norm"}, {"pair_style": "ZBL"},
    ],
    "EQ1931": [{"conv_to_output_hidden_irreps_out": "2x0e+1x1o"}],
    "EQ1932": [{"nonlinearity_gates": {"e": "ssp", "o": "abs"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("id", "option"), [(id, option) for id in PUBLISHED_OPTIONS for option in PUBLISHED_OPTIONS[id]], ids=str
)
def test_published_options_without_counterpart(make_oracle, id, option):
    config, state = files(published, make_oracle)
    with pytest.raises(ConfigError, match=id):
        convert(config | option, state)


def test_an_energy_shift_per_structure_is_refused(make_oracle):
    config, state = files(published, make_oracle)
    with pytest.raises(ConfigError, match="EQ1084"):
        convert(config, state | {"shift_by": np.array(-7.0)})


def test_names_of_types_come_first(make_oracle):
    config, state = files(published, make_oracle)
    assert convert(config | {"chemical_symbols": ["Si", "H", "C"]}, state).config.species == ("H", "C", "O")
    nameless = {key: value for key, value in config.items() if key != "type_names"}
    assert convert(nameless | {"chemical_symbols": ["Si", "H", "C"]}, state).config.species == ("H", "C", "Si")
    assert convert(nameless, state).config.species == ("H", "He", "Li")
