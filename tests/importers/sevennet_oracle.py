"""SevenNet written a second time, on e3nn's own layers and with sevenn's names: the oracle of its importer."""

from itertools import pairwise

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import nn

from .e3nn_product import tensor_product

SILU = torch.nn.functional.silu
TYPES = {6: 0, 1: 1, 8: 2}  # Z -> row
MODALITIES = {"R2SCAN": 0, "PBE": 1}
NAMES = {"skip": "self_connection_intro", "up": "self_interaction_1", "down": "self_interaction_2"}
BLANKS = [("_self_connection_intro.", " self connection intro."), ("_self_interaction_2.", " self interaction 2."),
          ("_convolution.", " convolution."), ("edge_embedding.", "EdgeEmbedding."), ("denominator", "denumerator"),
          ("reduce_input_to_hidden.", "reducing nn input to hidden."),
          ("reduce_hidden_to_energy.", "reducing nn hidden to energy."),
          ("rescale_atomic_energy.", "rescale atomic energy.")]  # fmt: skip


class Layer(nn.Module):
    """One convolution with its linear maps and gate; n_modal further scalars enter `up` and `down`."""

    def __init__(self, irreps_in, irreps_out, edge, n_modal):
        super().__init__()
        scalars, gated = irreps_out[:1], irreps_out[1:]
        self.gate = Gate(scalars, [SILU], [(n, "0e") for n, _ in gated], [SILU] * len(gated), gated)
        between = self.gate.irreps_in.simplify()
        modal = o3.Irreps([(n_modal, "0e")] if n_modal else [])
        self.skip, self.up = o3.Linear(irreps_in, between), o3.Linear(irreps_in + modal, irreps_in)
        self.product, middle = tensor_product(irreps_in, edge, between)
        self.radial = FullyConnectedNet([4, 6, 5, self.product.weight_numel], SILU)
        self.down = o3.Linear(middle.simplify() + modal, between)

    def forward(self, x, modal, senders, receivers, edge_sh, edge_radial, denominator):
        up = self.up(torch.cat([x, modal], 1))
        message = self.product(up[senders], edge_sh, self.radial(edge_radial))
        sums = message.new_zeros(len(x), message.shape[1]).index_add(0, receivers, message) / denominator
        return self.gate(self.down(torch.cat([sums, modal], 1)) + self.skip(x))


class SevenNet(nn.Module):
    """Energies per atom; `config` and `state` are what the checkpoint would hold.

    Args: xplor: envelope; normalized: harmonics of unit vectors; modality: "" for a model without; blanks: old names
    """

    def __init__(self, xplor, normalized, modality, blanks):
        super().__init__()
        torch.manual_seed(5)
        self.xplor, self.normalized, self.blanks, self.r_max, self.r_on = xplor, normalized, blanks, 4.0, 2.5
        self.edge, self.n_modal = o3.Irreps("0e+1e+2e"), len(MODALITIES) if modality else 0
        self.modal = torch.eye(2)[MODALITIES[modality]] if modality else torch.zeros(0)
        hidden = ["5x0e", "5x0e+3x1e+2x2e", "5x0e+3x1e+2x2e", "5x0e"]
        self.coeffs = nn.Parameter(torch.tensor([0.001, 0.8, 1.6, 2.3]))  # the first as good as 0, as in a trained one
        self.embedding = o3.Linear("3x0e", "5x0e")
        self.layers = nn.ModuleList(
            Layer(o3.Irreps(a), o3.Irreps(b), self.edge, self.n_modal) for a, b in pairwise(hidden)
        )
        self.reduce_1 = o3.Linear(o3.Irreps("5x0e") + o3.Irreps("2x0e" if modality else ""), "2x0e")
        self.reduce_2 = o3.Linear("2x0e", "1x0e")
        self.scale, self.shift = torch.rand(3) + 0.5, torch.randn((2, 3) if modality else 3)
        self.row = MODALITIES.get(modality, -1)
        envelope = {"cutoff_function_name": "XPLOR", "cutoff_on": self.r_on}
        if not xplor:
            envelope = {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6}
        self.config = {"version": "0.9.1", "_type_map": TYPES, "irreps_manual": hidden, "lmax": 2, "lmax_edge": -1,
                       "lmax_node": -1, "is_parity": False, "num_convolution_layer": 3, "cutoff": self.r_max,
                       "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 4},
                       "cutoff_function": envelope, "weight_nn_hidden_neurons": [6, 5], "act_radial": "silu",
                       "act_scalar": {"e": "silu", "o": "tanh"}, "act_gate": {"e": "silu", "o": "tanh"},
                       "self_connection_type": "linear", "use_bias_in_linear": False,
                       "readout_as_fcn": False}  # fmt: skip
        if normalized:
            self.config["_normalize_sph"] = True
        if modality:
            self.config |= {"use_modality": True, "_modal_map": MODALITIES, "modality": modality,
                            "use_modal_self_inter_intro": True, "use_modal_self_inter_outro": True,
                            "use_modal_output_block": True}  # fmt: skip

    def flip(self, *degrees):
        """The other sign of a coupling, as another release of e3nn would have it."""
        ending = "_w3j_" + "_".join(map(str, degrees))
        found = [buffer for name, buffer in self.named_buffers() if name.endswith(ending)]
        assert found
        for buffer in found:
            buffer.neg_()

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.norm(dim=1, keepdim=True)
        a, b = self.r_on**2, self.r_max**2
        envelope = torch.where(r < self.r_on, 1.0, (b - r**2) ** 2 * (b + 2 * r**2 - 3 * a) / (b - a) ** 3)
        x = r / self.r_max
        if not self.xplor:
            envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
        edge_radial = 2 / self.r_max * torch.sin(self.coeffs * r) / r * envelope * (x < 1)
        edge_sh = o3.spherical_harmonics(self.edge, edge_vector, self.normalized, "component")
        modal = self.modal.expand(len(species), -1)
        h = self.embedding(torch.eye(3)[species])
        for layer in self.layers:
            h = layer(h, modal, senders, receivers, edge_sh, edge_radial, 3.5)
        out = self.reduce_2(self.reduce_1(torch.cat([h, modal], 1))).squeeze(1)
        return out * self.scale[species] + (self.shift if self.row < 0 else self.shift[self.row])[species]

    def state(self):
        """The state dict under sevenn's names, with the derived arrays that come along."""
        arrays = {"edge_embedding.basis_function.coeffs": self.coeffs, "rescale_atomic_energy.scale": self.scale,
                  "rescale_atomic_energy.shift": self.shift}  # fmt: skip
        linears = {"onehot_to_feature_x": self.embedding, "reduce_input_to_hidden": self.reduce_1,
                   "reduce_hidden_to_energy": self.reduce_2}  # fmt: skip
        for k, layer in enumerate(self.layers):
            linears |= {f"{k}_{name}": getattr(layer, ours) for ours, name in NAMES.items()}
            prefix = f"{k}_convolution."
            arrays[prefix + "denominator"] = torch.tensor([3.5])
            arrays |= {f"{prefix}convolution.{name}": array for name, array in layer.product.state_dict().items()}
            arrays |= {f"{prefix}weight_nn.{name}": array for name, array in layer.radial.state_dict().items()}
        for name, linear in linears.items():
            arrays |= {f"{name}.linear.{each}": array for each, array in linear.state_dict().items()}
        if self.blanks:
            for new, old in BLANKS:
                arrays = {name.replace(new, old): array for name, array in arrays.items()}
        return {name: array.detach().numpy() for name, array in arrays.items()}
