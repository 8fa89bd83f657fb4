"""NequIP written a second time, on e3nn's own layers and with nequip's names: the oracle of its importer."""

import math
from itertools import pairwise

import pytest
import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import nn

from .e3nn_product import tensor_product

SILU, TANH = torch.nn.functional.silu, torch.tanh


def reachable(irreps_in, irreps_edge, irrep):
    return any(irrep in ir_in * ir_edge for _, ir_in in irreps_in for _, ir_edge in irreps_edge)


class Layer(nn.Module):
    """Interaction block and gate, in the words of nequip's interaction_block.py and convnetlayer.py."""

    def __init__(self, irreps_in, irreps_edge, irreps_hidden, n_attributes, radial_widths, published, first):
        super().__init__()
        scalars, gated = ([(n, ir) for n, ir in irreps_hidden if (ir.l > 0) == vector and
                           reachable(irreps_in, irreps_edge, ir)] for vector in (False, True))  # fmt: skip
        activations = [SILU if ir.p > 0 else TANH for _, ir in scalars]
        self.gate = Gate(scalars, activations, [(n, "0e") for n, _ in gated], [SILU] * len(gated), gated)
        between = self.gate.irreps_in.simplify()
        self.linear_1 = o3.Linear(irreps_in, irreps_in)
        self.product, middle = tensor_product(irreps_in, irreps_edge, between)
        widths = [*radial_widths, self.product.weight_numel]
        self.published = published
        self.radial = FullyConnectedNet(widths, SILU) if published else nn.ParameterList(matrices(widths))
        self.linear_2 = o3.Linear(middle.simplify(), between)
        self.sc = None
        if published or not first:
            self.sc = o3.FullyConnectedTensorProduct(irreps_in, o3.Irreps([(n_attributes, (0, 1))]), between)

    def forward(self, x, attributes, senders, receivers, edge_sh, edge_radial, norm):
        weight = self.radial(edge_radial) if self.published else network(self.radial, edge_radial)
        message = self.product((self.linear_1(x) * norm)[senders], edge_sh, weight)
        sums = message.new_zeros(len(x), message.shape[1]).index_add(0, receivers, message)
        y = self.linear_2(sums)
        return self.gate(y if self.sc is None else y + self.sc(x, attributes))


def matrices(widths):
    return [nn.Parameter((torch.rand(n_in, n_out) * 2 - 1) * math.sqrt(3)) for n_in, n_out in pairwise(widths)]


def network(weights, x):
    for k, weight in enumerate(weights):
        x = SILU(x) if k else x
        x = x @ weight * math.sqrt((2 if k else 1) / weight.shape[0])
    return x


class Oracle(nn.Module):
    """Energies per atom; `config` and `state` are what nequip's own files would hold.

    Args: hidden, edge: irreps; n_embedding: width of the species embedding; radial, readout: hidden widths;
          neighbors: mean degree, or one per species; published: nequip 0.6 instead of >= 0.7
    """

    def __init__(self, hidden, edge, n_layers, n_embedding, radial, readout, neighbors, published, n_species=3):
        super().__init__()
        torch.manual_seed(11)
        hidden, self.edge, self.published, self.r_max = o3.Irreps(hidden), o3.Irreps(edge), published, 4.0
        last = o3.Irreps([(n, ir) for n, ir in hidden if ir == o3.Irrep("0e")])
        self.neighbors = torch.tensor([float(neighbors)] * n_species if not isinstance(neighbors, list) else neighbors)
        self.frequency = nn.Parameter(torch.arange(1.0, 6.0) + 0.1 * torch.randn(5))
        n_attributes = n_species if published else n_embedding
        self.embedding = nn.Parameter(torch.randn(n_species, n_embedding))
        irreps, layers = o3.Irreps([(n_embedding, (0, 1))]), []
        for k in range(n_layers):
            target = hidden if published or k < n_layers - 1 else last
            layers.append(Layer(irreps, self.edge, target, n_attributes, [5, *radial], published, k == 0))
            irreps = layers[-1].gate.irreps_out
        self.layers = nn.ModuleList(layers)
        if published:
            to_hidden = o3.Linear(irreps, o3.Irreps([(readout[0], (0, 1))]))
            self.readout = nn.ModuleList([to_hidden, o3.Linear(f"{readout[0]}x0e", "1x0e")])
        else:
            self.readout = nn.ParameterList(matrices([last.dim, *readout, 1]))
        self.scales, self.shifts = torch.rand(n_species) + 0.5, torch.randn(n_species)
        names = ["H", "C", "O"][:n_species]
        if published:
            self.config = {"chemical_embedding_irreps_out": f"{n_embedding}x0e", "feature_irreps_hidden": str(hidden),
                           "irreps_edge_sh": str(self.edge), "conv_to_output_hidden_irreps_out": f"{readout[0]}x0e",
                           "num_layers": n_layers, "num_basis": 5, "r_max": self.r_max, "type_names": names,
                           "avg_num_neighbors": neighbors}  # fmt: skip
        else:
            degree = dict(zip(names, neighbors, strict=True)) if isinstance(neighbors, list) else neighbors
            self.config = {"feature_irreps_hidden": [str(hidden)] * (n_layers - 1) + [str(last)], "num_bessels": 5,
                           "irreps_edge_sh": str(self.edge), "type_names": names, "r_max": self.r_max,
                           "bessel_trainable": True, "avg_num_neighbors": degree}  # fmt: skip

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.norm(dim=1, keepdim=True)
        x = r / self.r_max
        envelope = (1 - 28 * x**6 + 48 * x**7 - 21 * x**8) * (x < 1)
        edge_radial = 2 / self.r_max * torch.sin(self.frequency * math.pi * x) / r * envelope
        edge_sh = o3.spherical_harmonics(self.edge, edge_vector, True, "component")
        one_hot = torch.nn.functional.one_hot(species, len(self.scales)).to(edge_vector.dtype)
        h = one_hot @ self.embedding * (len(self.scales) ** -0.5 if self.published else 1.0)
        attributes = one_hot if self.published else h
        norm = self.neighbors[species].rsqrt().unsqueeze(1)
        for layer in self.layers:
            h = layer(h, attributes, senders, receivers, edge_sh, edge_radial, norm)
        out = self.readout[1](self.readout[0](h)) if self.published else network(self.readout, h)
        return self.scales[species] * out.squeeze(1) + self.shifts[species]

    def state(self):
        """The state dict under nequip's names, with the derived arrays that come along."""
        new = not self.published
        arrays = {"_empty": torch.zeros(0)}
        if new:
            arrays["func.type_embed.embed_module.weight"] = self.embedding
            arrays["func.bessel_encode.bessel_weights"] = self.frequency.unsqueeze(0)
            arrays["func.edge_norm._rmax_recip"] = torch.tensor(1 / self.r_max)
            scaling, rows = "per_type_energy_scale_shift", (-1, 1)
        else:
            arrays["func.chemical_embedding.linear.weight"] = self.embedding.flatten()
            arrays["func.radial_basis.basis.bessel_weights"] = self.frequency * math.pi
            arrays["func.conv_to_output_hidden.linear.weight"] = self.readout[0].weight
            arrays["func.output_hidden_to_scalar.linear.weight"] = self.readout[1].weight
            scaling, rows = "per_species_rescale", (-1,)
        arrays |= {f"func.{scaling}.{n}": getattr(self, n).reshape(rows) for n in ("scales", "shifts")}
        for k, weight in enumerate(self.readout if new else []):
            arrays[f"func.per_atom_energy_readout.mlp_module.mlp.{2 * k}.weight"] = weight
        for k, layer in enumerate(self.layers):
            prefix = f"func.layer{k}_convnet.conv."
            arrays |= {f"{prefix}tp.{n}": array for n, array in layer.product.state_dict().items()}
            for name in ("linear_1", "linear_2", "sc"):
                if getattr(layer, name) is not None:
                    arrays |= {f"{prefix}{name}.{n}": array for n, array in getattr(layer, name).state_dict().items()}
            radial = layer.radial if new else [part.weight for part in layer.radial]
            pattern = "edge_mlp.mlp.{}.weight" if new else "fc.layer{}.weight"
            arrays |= {prefix + pattern.format(k * (2 if new else 1)): w for k, w in enumerate(radial)}
        return {f"model.{name}": array.detach().numpy() for name, array in arrays.items()}


@pytest.fixture
def make_oracle(float64_default):
    """Oracle, built in float64."""
    return Oracle
