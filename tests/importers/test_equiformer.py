"""Equiformer's weights: golden files block by block, and a second Equiformer written on e3nn's coefficients."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from e3nn import o3
from toys import GOLDEN, close

from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import PotentialError
from eqff.importers.equiformer import convert
from eqff.nn.features import split_blocks

SILU, SIGMOID, LEAKY = 1.6791767923989418, 1.8467055342154763, 1.531320475574866
FILES = sorted(GOLDEN.glob("equiformer*.npz"))


def read(path):
    file = np.load(path)
    state = {name[2:]: file[name] for name in file.files if name.startswith("w/")}
    return file, json.loads(str(file["config"])), state


def species_of(model_config, numbers):
    places = [ATOMIC_NUMBERS[symbol] for symbol in model_config.species]
    return torch.tensor([places.index(int(number)) for number in numbers])


def as_e3nn(h, irreps):
    """[n_atoms, width], channels last -> channels first."""
    blocks = split_blocks(h, [(block.irrep.dim, block.n_channels) for block in irreps])
    return torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], 1)


@pytest.mark.skipif(not FILES, reason=f"no golden files in {GOLDEN}")
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_golden_block_by_block(path):
    file, foreign, state = read(path)
    config, model = convert(foreign, state)
    species = species_of(config, file["in/numbers"])
    positions = torch.tensor(file["in/pos"], requires_grad=True)
    senders, receivers = torch.tensor(file["in/edge_index"])
    geometry = model.geometry(positions[senders] - positions[receivers])
    close(geometry.radial.detach(), file["mid/rbf"], 1e-12)
    h = model.embed(species, senders, receivers, geometry)
    for k in range(model.n_hops):
        h = model.interact(k, h, species, senders, receivers, geometry)
        if k > 0:
            ours = {block.irrep: x for block, x in zip(model.layer_irreps[k + 1], _blocks(h, model, k), strict=True)}
            theirs = torch.tensor(file[f"mid/blocks.{k - 1}"])
            irreps = o3.Irreps(foreign["irreps_node_embedding" if k < model.n_hops - 1 else "irreps_feature"])
            for (_, irrep), where in zip(irreps, irreps.slices(), strict=True):
                found = ours.get((irrep.l, irrep.p))
                expected = theirs[:, where]
                if found is None:  # zero by symmetry
                    assert float(expected.abs().max()) == 0.0
                else:
                    close(found.transpose(1, 2).flatten(1).detach(), expected, 1e-12)
    close(model.features(h).detach(), file["mid/head.1"], 1e-12)
    energy = model.readout(h, species).sum()
    close(energy.detach(), file["out/total_energy"].reshape(()), 1e-10)
    (gradient,) = torch.autograd.grad(energy, positions)
    close(-gradient, file["out/forces"], 1e-10)


@pytest.mark.skipif(not (GOLDEN / "equiformer_se3_l2.npz").exists(), reason=f"no golden files in {GOLDEN}")
def test_couplings_of_another_sign():
    """Another release of e3nn: coupling (1, 2, 2) and the weights of its path, 88 ... 95, negative; the same model."""
    file, foreign, state = read(GOLDEN / "equiformer_se3_l2.npz")
    assert foreign["irreps_node_embedding"] == "16x0e+8x1e+4x2e"
    n_negated = 0
    for name in state:
        if ".dtp.tp." in name and name.endswith("_w3j_1_2_2"):
            state[name], n_negated = -state[name], n_negated + 1
        elif name.startswith("blocks.") and name.endswith(
            ("sep_act.dtp_rad.net.6.weight", "sep_act.dtp_rad.offset", "sep_value.dtp.tp.weight")
        ):
            state[name] = state[name].copy()
            state[name][88:96] *= -1.0
    assert n_negated >= 2
    config, model = convert(foreign, state)
    senders, receivers = torch.tensor(file["in/edge_index"])
    positions = torch.tensor(file["in/pos"])
    vectors = positions[senders] - positions[receivers]
    energy = model(species_of(config, file["in/numbers"]), senders, receivers, vectors).sum()
    close(energy.detach(), file["out/total_energy"].reshape(()), 1e-10)


def _blocks(h, model, k):
    return split_blocks(h, [(block.irrep.dim, block.n_channels) for block in model.layer_irreps[k + 1]])


class Oracle:
    """Equiformer on e3nn's coefficients; weights come into being, under the published names, when they are used."""

    def __init__(self, foreign, n_rows=64, seed=0):
        self.foreign, self.n_rows, self.state = foreign, n_rows, {}
        self.generator = torch.Generator().manual_seed(seed)
        self.edge = o3.Irreps(foreign["irreps_sh"])
        self.hidden = o3.Irreps(foreign["irreps_node_embedding"])
        r_max, n_basis = foreign["max_radius"], foreign["number_of_basis"]
        start = math.exp(-r_max)
        self.means = torch.linspace(start, 1.0, n_basis)
        self.betas = torch.full((n_basis,), (2 / n_basis * (1 - start)) ** -2)
        self.state |= {"rbf.means": self.means, "rbf.betas": self.betas}

    def weight(self, name, *shape, scale=1.0):
        if name not in self.state:
            self.state[name] = scale * torch.randn(*shape, generator=self.generator)
        return self.state[name]

    def linear(self, x, before, after, name, bias=True):
        """LinearRS: flat weights, input outer; the bias of even scalars."""
        pairs = [(i, j) for i, (_, a) in enumerate(before) for j, (_, b) in enumerate(after) if a == b]
        sizes = [before[i].mul * after[j].mul for i, j in pairs]
        matrices = self.weight(f"{name}.tp.weight", sum(sizes), scale=0.3).split(sizes)
        outputs = [x.new_zeros(len(x), mul, ir.dim) for mul, ir in after]
        for (i, j), matrix in zip(pairs, matrices, strict=True):
            block = x[:, before.slices()[i]].reshape(len(x), before[i].mul, -1)
            outputs[j] = outputs[j] + torch.einsum("nui,uw->nwi", block, matrix.reshape(before[i].mul, after[j].mul))
        even = [ir for _, ir in after].index(o3.Irrep("0e")) if "0e" in [str(ir) for _, ir in after] else None
        if bias and even is not None:
            outputs[even] = outputs[even] + self.weight(f"{name}.bias.0", after[even].mul)[None, :, None]
        return torch.cat([output.flatten(1) for output in outputs], 1)

    def product(self, before, targets):
        """Depth-wise tensor product and its output, sorted by degree, even first, and simplified."""
        slots, paths = [], []
        for i, (mul, ir) in enumerate(before):
            for j, (_, ir_edge) in enumerate(self.edge):
                for out in ir * ir_edge:
                    if out in [t for _, t in targets] or out == o3.Irrep("0e"):
                        paths.append((i, j, len(slots)))
                        slots.append((mul, out))
        order = sorted(range(len(slots)), key=lambda k: (slots[k][1].l, -slots[k][1].p))
        middle = o3.Irreps([slots[k] for k in order]).simplify()
        n_weights = sum(mul for mul, _ in slots)

        def multiply(x, edge_sh, weight):
            outputs, first = [], 0
            for i, j, k in paths:
                mul, out = slots[k]
                coupling = math.sqrt(out.dim) * o3.wigner_3j(before[i].ir.l, self.edge[j].ir.l, out.l)
                block = x[:, before.slices()[i]].reshape(len(x), mul, -1)
                y = torch.einsum("eua,eb,abc->euc", block, edge_sh[:, self.edge.slices()[j]], coupling)
                outputs.append((y * weight[:, first : first + mul, None]).flatten(1))
                first += mul
            return torch.cat([outputs[k] for k in order], 1)

        return multiply, n_weights, middle

    def radial(self, name, n_out):
        widths, x = self.foreign["fc_neurons"], self.edge_radial
        for k, width in enumerate(widths):
            first, second = f"{name}.net.{3 * k}", f"{name}.net.{3 * k + 1}"
            x = torch.nn.functional.linear(
                x, self.weight(f"{first}.weight", width, x.shape[1], scale=0.3), self.weight(f"{first}.bias", width)
            )
            x = torch.nn.functional.layer_norm(
                x, (width,), self.weight(f"{second}.weight", width), self.weight(f"{second}.bias", width)
            )
            x = torch.nn.functional.silu(x)
        last = self.weight(f"{name}.net.{3 * len(widths)}.weight", n_out, x.shape[1], scale=0.3)
        return x @ last.T + self.weight(f"{name}.offset", n_out)

    def norm(self, x, irreps, name):
        outputs = []
        weights = self.weight(f"{name}.affine_weight", irreps.num_irreps).split([mul for mul, _ in irreps])
        for (mul, ir), where, weight in zip(irreps, irreps.slices(), weights, strict=True):
            block = x[:, where].reshape(len(x), mul, ir.dim)
            if ir == o3.Irrep("0e"):
                block = block - block.mean(1, keepdim=True)
            block = block / torch.sqrt(block.pow(2).mean([1, 2], keepdim=True) + 1e-5) * weight[None, :, None]
            if ir == o3.Irrep("0e"):
                block = block + self.weight(f"{name}.affine_bias", mul)[None, :, None]
            outputs.append(block.flatten(1))
        return torch.cat(outputs, 1)

    def gated(self, x, before, after, name):
        """Linear map and gate."""
        scalars = after[0].mul
        gates = sum(mul for mul, _ in after[1:])
        inputs = o3.Irreps([(scalars + gates, "0e"), *after[1:]])
        x = self.linear(x, before, inputs, name)
        if not gates:
            return torch.nn.functional.silu(x) * SILU
        open_ = torch.sigmoid(x[:, scalars : scalars + gates]) * SIGMOID
        outputs, first = [torch.nn.functional.silu(x[:, :scalars]) * SILU], 0
        for (mul, ir), where in zip(inputs[1:], inputs.slices()[1:], strict=True):
            block = x[:, where].reshape(len(x), mul, ir.dim) * open_[:, first : first + mul, None]
            outputs.append(block.flatten(1))
            first += mul
        return torch.cat(outputs, 1)

    def attention(self, x, prefix, senders, receivers):
        n_heads, hidden = self.foreign["num_heads"], self.hidden
        head = o3.Irreps(self.foreign["irreps_head"])
        heads = o3.Irreps([(mul * n_heads, ir) for mul, ir in head])
        n_scalars = head[0].mul
        message = self.linear(x, hidden, hidden, f"{prefix}.merge_src")[senders]
        message = message + self.linear(x, hidden, hidden, f"{prefix}.merge_dst", bias=False)[receivers]
        if self.foreign["nonlinear_message"]:
            product, n_weights, middle = self.product(hidden, hidden)
            f = product(message, self.edge_sh, self.radial(f"{prefix}.sep_act.dtp_rad", n_weights))
            score = self.linear(f, middle, o3.Irreps([(heads[0].mul, "0e")]), f"{prefix}.sep_alpha")
            score = score.reshape(-1, n_heads, n_scalars)
            value = self.gated(f, middle, hidden, f"{prefix}.sep_act.lin")
            product, n_weights, middle = self.product(hidden, heads)
            shared = self.weight(f"{prefix}.sep_value.dtp.tp.weight", n_weights)
            value = product(value, self.edge_sh, shared.expand(len(value), -1))
            value = self.linear(value, middle, heads, f"{prefix}.sep_value.lin")
        else:
            both = o3.Irreps([(2 * heads[0].mul, "0e"), *heads[1:]])
            product, n_weights, middle = self.product(hidden, both)
            f = product(message, self.edge_sh, self.radial(f"{prefix}.sep.dtp_rad", n_weights))
            f = self.linear(f, middle, both, f"{prefix}.sep.lin")
            scalars = f[:, : both[0].dim].reshape(-1, n_heads, 2 * n_scalars)
            score = scalars[:, :, :n_scalars]
            value = torch.cat([scalars[:, :, n_scalars:].flatten(1), f[:, both[0].dim :]], 1)
        score = LEAKY * (0.6 * score + 0.4 * score * (2 * torch.sigmoid(score) - 1))
        score = (score * self.weight(f"{prefix}.alpha_dot", 1, n_heads, n_scalars)).sum(2)
        weight = torch.zeros_like(score)
        for i in range(len(x)):
            weight[receivers == i] = torch.softmax(score[receivers == i], 0)
        outputs = []
        for where in heads.slices():
            block = value[:, where].reshape(len(value), n_heads, -1) * weight[:, :, None]
            outputs.append(block.flatten(1))
        total = x.new_zeros(len(x), heads.dim).index_add(0, receivers, torch.cat(outputs, 1))
        return self.linear(total, heads, hidden, f"{prefix}.proj")

    def energy(self, numbers, senders, receivers, edge_vector):
        """Energies of atoms; numbers: rows of the embedding."""
        foreign, hidden, scalar = self.foreign, self.hidden, o3.Irreps("1x0e")
        r, r_max = edge_vector.norm(dim=1, keepdim=True), foreign["max_radius"]
        self.edge_radial = 0.5 * (torch.cos(math.pi * r / r_max) + 1)
        self.edge_radial = self.edge_radial * torch.exp(-self.betas * (torch.exp(-5 * r / r_max) - self.means) ** 2)
        self.edge_sh = o3.spherical_harmonics(self.edge, edge_vector, True, "component")
        one_hot = torch.nn.functional.one_hot(numbers, self.n_rows).to(edge_vector.dtype)
        h = self.linear(one_hot, o3.Irreps(f"{self.n_rows}x0e"), hidden, "atom_embed.atom_type_lin")
        constant = self.linear(torch.ones(len(h), 1), scalar, hidden, "edge_deg_embed.exp")
        product, n_weights, middle = self.product(hidden, hidden)
        degree = product(constant[senders], self.edge_sh, self.radial("edge_deg_embed.rad", n_weights))
        degree = self.linear(degree, middle, hidden, "edge_deg_embed.proj") / math.sqrt(15.57930850982666)
        h = h.index_add(0, receivers, degree)
        inside, features = o3.Irreps(foreign["irreps_mlp_mid"]), o3.Irreps(foreign["irreps_feature"])
        for k in range(foreign["num_layers"]):
            prefix = f"blocks.{k}"
            out = features if k == foreign["num_layers"] - 1 else hidden
            h = h + self.attention(self.norm(h, hidden, f"{prefix}.norm_1"), f"{prefix}.ga", senders, receivers)
            x = self.gated(self.norm(h, hidden, f"{prefix}.norm_2"), hidden, inside, f"{prefix}.ffn.fctp_1")
            x = self.linear(x, inside, out, f"{prefix}.ffn.fctp_2")
            h = x + (h if out == hidden else self.linear(h, hidden, out, f"{prefix}.ffn_shortcut"))
        x = self.linear(self.norm(h, features, "norm"), features, features, "head.0")
        x = self.linear(torch.nn.functional.silu(x) * SILU, features, scalar, "head.2")
        return x.squeeze(1) / math.sqrt(18.03065905448718)

    def arrays(self, prefix=""):
        """The state dict, with derived arrays as they come along."""
        arrays = {prefix + name: tensor.detach().numpy() for name, tensor in self.state.items()}
        return arrays | {f"{prefix}atom_embed.atom_type_lin.tp.output_mask": np.ones(3)}


def foreign_config(**changes):
    plain = {
        "irreps_node_embedding": "6x0e+4x1e+2x2e", "irreps_sh": "1x0e+1x1e+1x2e", "irreps_head": "3x0e+2x1e+1x2e",
        "irreps_mlp_mid": "5x0e+4x1e+3x2e", "irreps_feature": "7x0e", "num_layers": 2, "num_heads": 2,
        "max_radius": 4.0, "number_of_basis": 6, "basis_type": "exp", "fc_neurons": [5, 6], "nonlinear_message": True,
        "norm_layer": "layer", "rescale_degree": False, "mean": None, "std": None, "scale": None, "atomref": None,
    }  # fmt: skip
    return plain | changes


BOTH = {
    "irreps_node_embedding": "4x0e+3x0o+2x1e+3x1o+2x2e+1x2o",
    "irreps_sh": "1x0e+1x1o+1x2e",
    "irreps_head": "2x0e+1x0o+1x1e+2x1o+1x2e+1x2o",
    "irreps_mlp_mid": "4x0e+2x0o+2x1e+2x1o+2x2e+2x2o",
    "num_layers": 3,
}
CASES = {
    "SE(3)": {},
    "E(3)": BOTH,
    "E(3), linear messages": BOTH | {"nonlinear_message": False},
    "E(3), other heads": BOTH | {"irreps_head": "3x0e+2x1o", "irreps_mlp_mid": "4x0e+2x1e", "num_heads": 3},
    "E(3), other heads, linear": BOTH
    | {"irreps_head": "3x0e+2x1o", "irreps_mlp_mid": "4x0e", "num_heads": 3, "nonlinear_message": False},
    "natural parity": {
        "irreps_node_embedding": "4x0e+2x1o+2x2e+1x3o",
        "irreps_sh": "1x0e+1x1o+1x2e+1x3o",
        "irreps_head": "2x0e+2x1o+1x2e+1x3o",
        "irreps_mlp_mid": "4x0e+2x1o+2x2e+1x3o",
        "fc_neurons": [4],
    },
    "harmonics above features": {"irreps_node_embedding": "4x0e+2x1e", "irreps_head": "2x0e+2x1e",
                                 "irreps_mlp_mid": "3x0e+2x1e"},
    "energy scale": {"std": 2.5, "scale": 0.5},
}  # fmt: skip


def edges(n_atoms=5, seed=1):
    """Every atom sees every other."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(n_atoms, 3, generator=generator) * 2.2
    senders, receivers = torch.tensor([(j, i) for i in range(n_atoms) for j in range(n_atoms) if i != j]).T
    return senders, receivers, (positions[senders] - positions[receivers]).requires_grad_(True)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
@pytest.mark.usefixtures("float64_default")
def test_oracle_of_e3nn(changes):
    foreign = foreign_config(**changes)
    oracle, arguments = Oracle(foreign), edges()
    numbers = torch.tensor([6, 1, 8, 1, 6])
    factor = math.prod(foreign[key] for key in ("std", "scale") if foreign[key] is not None)
    theirs = factor * oracle.energy(numbers, *arguments)
    config, model = convert(foreign, oracle.arrays("module."))
    ours = model(species_of(config, numbers), *arguments)
    close(ours.detach(), theirs.detach(), 1e-12)
    gradients = [torch.autograd.grad(energies.sum(), arguments[2])[0] for energies in (ours, theirs)]
    assert float(gradients[1].abs().max()) > 1e-3
    close(*gradients, 1e-12)


@pytest.mark.usefixtures("float64_default")
def test_parameter_count_of_the_paper():
    """The published MD17 model, L = 2; what does not reach the energy is not taken over."""
    foreign = foreign_config(
        irreps_node_embedding="128x0e+64x1e+32x2e", irreps_head="32x0e+16x1e+8x2e", num_heads=4, num_layers=6,
        irreps_mlp_mid="384x0e+192x1e+96x2e", irreps_feature="512x0e", number_of_basis=32, fc_neurons=[64, 64],
    )  # fmt: skip
    oracle = Oracle(foreign)
    oracle.energy(torch.tensor([1, 6]), *edges(2))
    published = sum(tensor.numel() for name, tensor in oracle.state.items() if not name.startswith("rbf"))
    assert published == 3_496_001
    _, model = convert(foreign | {"species": ["H", "C"]}, oracle.arrays())
    assert 0.5 * published < sum(parameter.numel() for parameter in model.parameters()) < published


@pytest.mark.usefixtures("float64_default")
def test_embeddings_of_qm9_have_five_rows():
    foreign, arguments = foreign_config(), edges()
    oracle = Oracle(foreign, n_rows=5)
    theirs = oracle.energy(torch.tensor([1, 0, 3, 4, 2]), *arguments)  # C H O F N
    config, model = convert(foreign, oracle.arrays())
    assert config.species == ("H", "C", "N", "O", "F")
    close(model(species_of(config, [6, 1, 8, 9, 7]), *arguments).detach(), theirs.detach(), 1e-12)


@cache
def plain_weights():
    oracle = Oracle(foreign_config(num_layers=1))
    oracle.energy(torch.tensor([1, 6]), *edges(2))
    return oracle.arrays()


@pytest.fixture
def source(float64_default):
    """A configuration and its weights."""
    return foreign_config(num_layers=1), dict(plain_weights())


def test_species_to_keep(source):
    foreign, state = source
    config, model = convert(foreign | {"species": ["O", "H"]}, state)
    assert config.species == ("O", "H")
    everything = convert(foreign, state).model
    close(model.embedding.detach(), everything.embedding[[7, 0]].detach(), 0.0)


def refused(id, foreign, state):
    with pytest.raises(PotentialError) as error:
        convert(foreign, state)
    assert error.value.id == id
    return str(error.value)


@pytest.mark.parametrize(
    ("id", "changes", "named"),
    [
        ("EQ4339", {"basis_type": "gaussian"}, "basis_type"),
        ("EQ4339", {"rescale_degree": True}, "rescale_degree"),
        ("EQ4339", {"norm_layer": "graph"}, "norm_layer"),
        ("EQ4339", {"mean": -97_000.0}, "mean"),
        ("EQ4915", {"irreps_pre_attn": "6x0e"}, "irreps_pre_attn"),
        ("EQ4916", {"irreps_feature": "7x0e+1x1e"}, "irreps_feature"),
        ("EQ4917", {"irreps_sh": "1x0e+1x2e"}, "irreps_sh"),
        ("EQ4918", {"irreps_node_embedding": "4x1e+6x0e+2x2e"}, "irreps_node_embedding"),
        ("EQ4919", {"species": ["Og"]}, "species"),
    ],
)
def test_options_without_counterpart(source, id, changes, named):
    foreign, state = source
    assert named in refused(id, foreign | changes, state)


def test_incomplete_configuration(source):
    foreign, state = source
    del foreign["irreps_head"]
    assert "irreps_head" in refused("EQ4914", foreign, state)


def test_every_weight_is_accounted_for(source):
    foreign, state = source
    assert "surplus" in refused("EQ4304", foreign, state | {"surplus.weight": np.ones(2)})
    names = [name for name in state if "output_mask" not in name and "atom_type_lin.tp" not in name]
    for name in names[::3]:
        rest = {key: value for key, value in state.items() if key != name}
        assert name in refused("EQ4303", foreign, rest)
        longer = state | {name: np.concatenate([state[name], state[name]])}
        assert refused("EQ4338" if name.startswith("rbf") else "EQ4337", foreign, longer)


def test_other_models(source):
    foreign, state = source
    refused("EQ4334", foreign, {"type_embed.weight": np.ones(3)})
    refused("EQ4913", foreign, state | {"blocks.0.dpa.query.tp.weight": np.ones(3)})
    refused("EQ4338", foreign, state | {"rbf.means": state["rbf.means"] + 0.1})
