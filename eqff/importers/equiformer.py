"""Equiformer's own code -> eqff: configuration and weights of graph attention models for MD17, by rule.

What differs and is translated here: names; e3nn's flat weights; the order of radial weights (instructions of the tensor
product) and of heads; weights of the second tensor product, which are multiplied into the linear map behind it.
Weights that no energy depends on (of irreps that are always zero, or whose values are not used) are left out.
An option that changes the mathematics and has no counterpart here is refused, as is every weight not accounted for.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from eqff import config as config_io
from eqff.elements import ATOMIC_NUMBERS, SYMBOLS
from eqff.errors import PotentialError
from eqff.importers._contract import Imported, StateDict
from eqff.importers._e3nn import W3J, signs_of
from eqff.models.equiformer import Config, Model, TransformerBlock
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.gate import EVEN_SCALAR
from eqff.nn.graph_attention import LinearMessage, NonlinearMessage, channels_of, times, with_more_scalars
from eqff.nn.irreps_linear import IrrepsLinear
from eqff.nn.layer_norm import EquivariantLayerNorm
from eqff.nn.radial_profile import ExponentialBasis, RadialProfile
from eqff.o3.irreps import Block, Irrep, Irreps, parse, spherical_harmonics_irreps, tensor_product_paths, to_text

FAMILY = "equiformer"
SUBSET_KEY = "species"  # where a configuration says which elements to keep
DERIVED = (W3J, "output_mask", "gate.mul.")  # in names of arrays that follow from the configuration
AVERAGE_DEGREE = 15.57930850982666  # constants of the published code, whatever the data
AVERAGE_ATOMS = 18.03065905448718
QM9_ELEMENTS = (1, 6, 7, 8, 9)  # rows of embeddings with five of them; otherwise row = atomic number
OPTIONS: dict[str, list[Any]] = {
    "basis_type": ["exp"],
    "rescale_degree": [False],
    "norm_layer": ["layer"],
    "irreps_node_attr": ["1x0e"],
    "mean": [None, 0, 0.0],
    "atomref": [None],
}


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """A foreign configuration and state dict -> Config and Model that compute the same.

    Args:
        foreign: arguments of GraphAttentionTransformerMD17; `std`, where given, multiplies energies, so it must be in
            eV; further `species`: chemical symbols to keep, else all that have a row in the embedding
        state: its state dict as arrays
    Returns: Imported, float64, with the published form of attention
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size, and for an option that
             changes the mathematics and has no counterpart here
    """
    weights = Weights(state)
    for key, values in OPTIONS.items():
        if key in foreign and foreign[key] not in values:
            raise PotentialError(
                "EQ4339",
                f"{key}={foreign[key]!r}: eqff's Equiformer knows only {values[0]!r}; "
                "a model with another value cannot be imported",
            )
    config = _config(foreign, weights)
    model = Model(config).to(torch.float64)
    with torch.no_grad():
        _Filler(config, weights, str(foreign["irreps_sh"])).fill(model)
    weights.finish()
    return Imported(config, model)


class Weights(StateDict):
    """Equiformer's state dict; names are kept without the prefix of wrappers."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        mark = "atom_embed.atom_type_lin.tp.weight"
        prefixes = [name.removesuffix(mark) for name in state if name.endswith(mark)]
        if not prefixes:
            raise PotentialError("EQ4334", f"weights: no {mark}; give the weights of an Equiformer model")
        if any(".dpa." in name for name in state):
            raise PotentialError(
                "EQ4913",
                "weights: dot-product attention is not imported, only graph attention; "
                "choose a model with graph attention",
            )
        derived = {name for name in state if any(mark in name for mark in DERIVED)}
        couplings = {name for name in derived if ".dtp.tp." in name and W3J in name}  # others begin from scalars
        kept = {name: np.asarray(array) for name, array in state.items() if name not in derived - couplings}
        super().__init__({name.removeprefix(prefixes[0]): array for name, array in kept.items() if array.size > 0})


def _config(foreign: Mapping[str, Any], weights: Weights) -> Config:
    required = ("irreps_node_embedding", "irreps_sh", "irreps_head", "irreps_mlp_mid", "irreps_feature", "num_heads",
                "num_layers", "max_radius", "number_of_basis", "fc_neurons", "nonlinear_message")  # fmt: skip
    missing = [key for key in required if key not in foreign]
    if missing:
        raise PotentialError("EQ4914", f"configuration: {', '.join(missing)} missing; give all arguments of the model")
    hidden, features = _even_first(foreign, "irreps_node_embedding"), parse(str(foreign["irreps_feature"]))
    before = foreign.get("irreps_pre_attn")
    if before is not None and parse(str(before)) != hidden:
        raise PotentialError(
            "EQ4915",
            f"irreps_pre_attn={before}: eqff's Equiformer knows only those of the embedding; "
            "a model with others cannot be imported",
        )
    if len(features) != 1 or features[0].irrep != EVEN_SCALAR:
        raise PotentialError(
            "EQ4916",
            f"irreps_feature={to_text(features)}: eqff's Equiformer knows only even scalars; "
            "a model with others cannot be imported",
        )
    edge = [block.irrep for block in parse(str(foreign["irreps_sh"]))]
    natural = edge == spherical_harmonics_irreps(len(edge) - 1)
    if not natural and edge != spherical_harmonics_irreps(len(edge) - 1, False):
        raise PotentialError(
            "EQ4917",
            f"irreps_sh={foreign['irreps_sh']}: expected 0e + 1o + 2e ... or 0e + 1e + 2e ...; "
            "a model with others cannot be imported",
        )
    scale = math.prod(float(foreign[key]) for key in ("std", "scale") if foreign.get(key) is not None)
    fields = {
        "species": foreign.get("species") or [SYMBOLS[z] for z in _rows(weights, hidden) if z > 0],
        "r_max": float(foreign["max_radius"]),
        "l_max": len(edge) - 1,
        "parity": "both" if natural else "none",
        "hidden_irreps": to_text(hidden),
        "head_irreps": to_text(_even_first(foreign, "irreps_head")),
        "feed_forward_irreps": to_text(_even_first(foreign, "irreps_mlp_mid")),
        "n_features": features[0].n_channels,
        "n_layers": foreign["num_layers"],
        "n_heads": foreign["num_heads"],
        "attention": "nonlinear" if foreign["nonlinear_message"] else "linear",
        "smooth_attention": False,
        "n_basis": foreign["number_of_basis"],
        "radial_hidden": list(foreign["fc_neurons"]),
        "avg_num_neighbors": AVERAGE_DEGREE,
        "energy_scale": scale / math.sqrt(AVERAGE_ATOMS),
    }
    return config_io.from_mapping(Config, fields, where="imported config")


def _even_first(foreign: Mapping[str, Any], key: str) -> Irreps:
    """Irreps by degree, even before odd.  Raises: PotentialError if their order differs"""
    irreps = parse(str(foreign[key]))
    if list(irreps) != sorted(irreps, key=_order):
        raise PotentialError(
            "EQ4918",
            f"{key}={foreign[key]}: expected irreps by degree, even before odd; "
            "a model with another order cannot be imported",
        )
    return irreps


def _order(block: Block) -> tuple[int, int]:
    return block.irrep.l, -block.irrep.p


def _rows(weights: Weights, hidden: Irreps) -> Sequence[int]:
    """Atomic number of every row of the embedding."""
    name = "atom_embed.atom_type_lin.tp.weight"
    n_rows, rest = divmod(weights.arrays[name].size, max(channels_of(hidden, EVEN_SCALAR), 1))
    if rest:
        raise PotentialError(
            "EQ4920",
            f"{name}: {weights.arrays[name].size} numbers do not fit irreps {to_text(hidden)}; "
            "give the configuration the weights were trained with",
        )
    return QM9_ELEMENTS if n_rows == len(QM9_ELEMENTS) else range(n_rows)


PathName = tuple[Irrep, int, Irrep]  # input irrep, degree of the harmonics, output irrep


class ForeignProduct:
    """Where a path of a foreign tensor product has its weights and its output channels.

    Instructions: input block outer, edge degree middle, output irrep inner; output channels in the same order, sorted
    by irrep, even first.
    """

    def __init__(
        self,
        irreps: Irreps,
        irreps_edge: Sequence[Irrep],
        targets: Irreps,
        signs: Mapping[tuple[int, ...], float] | None = None,
    ) -> None:
        self.columns: dict[PathName, Tensor] = {}
        self.rows: dict[PathName, Tensor] = {}
        self.n_weights = 0
        factors: list[Tensor] = []  # signs of couplings, for each weight
        widths: dict[Irrep, int] = {}
        for path in tensor_product_paths(irreps, irreps_edge, [EVEN_SCALAR, *[block.irrep for block in targets]]):
            block = irreps[path.block]
            name, channels = (block.irrep, path.l_edge, path.irrep_out), torch.arange(block.n_channels)
            self.columns[name] = channels + self.n_weights
            self.rows[name] = channels + widths.get(path.irrep_out, 0)
            self.n_weights += block.n_channels
            sign = (signs or {}).get((block.irrep.l, path.l_edge, path.irrep_out.l), 1.0)
            factors.append(torch.full((block.n_channels,), sign, dtype=torch.float64))
            widths[path.irrep_out] = widths.get(path.irrep_out, 0) + block.n_channels
        self.signs = torch.cat(factors)
        self.irreps_out = tuple(sorted((Block(irrep, n) for irrep, n in widths.items()), key=_order))

    def columns_of(self, product: TensorProductConvolution, irreps: Irreps) -> Tensor:
        """The foreign weight for each weight of eqff."""
        return torch.cat([self.columns[name] for name in _names(product, irreps)])

    def rows_of(self, product: TensorProductConvolution, irreps: Irreps) -> dict[Irrep, Tensor]:
        """The foreign output channel for each channel of eqff, by output irrep."""
        names = _names(product, irreps)
        return {
            block.irrep: torch.cat([self.rows[name] for name in names if name[2] == block.irrep])
            for block in product.irreps_out
        }


def _names(product: TensorProductConvolution, irreps: Irreps) -> list[PathName]:
    return [(irreps[path.block].irrep, path.l_edge, path.irrep_out) for path in product.paths]


class ForeignLinear(NamedTuple):
    """A foreign linear map: matrices [n_in, n_out] by irrep, and the bias of even scalars."""

    matrices: dict[Irrep, Tensor]
    bias: Tensor | None


class _Filler:
    """Puts foreign weights into a model."""

    def __init__(self, config: Config, weights: Weights, irreps_sh: str) -> None:
        self.config, self.weights = config, weights
        self.hidden, self.head = parse(config.hidden_irreps), parse(config.head_irreps)
        self.inside = parse(config.feed_forward_irreps)
        self.features = (Block(EVEN_SCALAR, config.n_features),)
        self.edge = [block.irrep for block in parse(irreps_sh)]

    def fill(self, model: Model) -> None:
        self.basis(cast(ExponentialBasis, model.basis))
        rows = list(_rows(self.weights, self.hidden))
        table = self.weights.take("atom_embed.atom_type_lin.tp.weight").reshape(len(rows), -1)
        table = table + self.vector("atom_embed.atom_type_lin.bias.0", table.shape[1])
        unknown = [symbol for symbol in self.config.species if ATOMIC_NUMBERS[symbol] not in rows]
        if unknown:
            raise PotentialError(
                "EQ4919", f"species={unknown}: have no row in the foreign embedding; leave these elements out"
            )
        _set(
            model.embedding, table[[rows.index(ATOMIC_NUMBERS[symbol]) for symbol in self.config.species]], "atom_embed"
        )
        self.degree(model)
        for k, block in enumerate(model.blocks):
            self.block(cast(TransformerBlock, block), f"blocks.{k}.", model.layer_irreps[k + 1])
        self.norm(model.norm, "norm", self.features, self.features)
        self.linear(model.head, self.foreign("head.0", self.features, self.features))
        self.linear(model.output, self.foreign("head.2", self.features, (Block(EVEN_SCALAR, 1),)))

    def basis(self, basis: ExponentialBasis) -> None:
        means, betas = self.weights.take("rbf.means"), self.weights.take("rbf.betas")
        expected = torch.full_like(betas, basis.beta)
        if means.shape != basis.means().shape or not (
            torch.allclose(means, basis.means(), atol=1e-6) and torch.allclose(betas, expected, rtol=1e-5)
        ):
            raise PotentialError(
                "EQ4338",
                "rbf.means, rbf.betas: not those of max_radius and number_of_basis; "
                "give the configuration the weights were trained with",
            )

    def degree(self, model: Model) -> None:
        """The foreign tensor product starts from a vector of constants, which are multiplied into the map behind it."""
        prefix, degree = "edge_deg_embed.", model.degree
        scalars = (Block(EVEN_SCALAR, degree.n_scalars),)
        constants = self.vector(prefix + "exp.tp.weight", degree.n_scalars)
        constants = constants + self.vector(prefix + "exp.bias.0", degree.n_scalars)
        product = ForeignProduct(self.hidden, self.edge, self.hidden)
        self.radial(degree.radial, prefix + "rad.", product, degree.convolution, scalars)
        linear = self.foreign(prefix + "proj", product.irreps_out, self.hidden)
        matrices = {
            irrep: linear.matrices[irrep][rows] * constants.unsqueeze(1)
            for irrep, rows in product.rows_of(degree.convolution, scalars).items()
        }
        self.linear(degree.linear, ForeignLinear(matrices, None))
        _set(degree.edge_bias, cast(Tensor, linear.bias), prefix + "proj.bias.0")

    def block(self, block: TransformerBlock, prefix: str, irreps: Irreps) -> None:
        """Args: irreps: of the features before it, as far as they exist."""
        attention, last = block.attention, block.shortcut is not None
        self.norm(block.norm_attention, prefix + "norm_1", self.hidden, irreps)
        self.linear(attention.source, self.foreign(prefix + "ga.merge_src", self.hidden, self.hidden))
        self.linear(attention.target, self.foreign(prefix + "ga.merge_dst", self.hidden, self.hidden, bias=False))
        message = attention.message
        if isinstance(message, NonlinearMessage):
            self.nonlinear(message, attention.convolution, attention.radial, prefix + "ga.", irreps)
        elif isinstance(message, LinearMessage):
            self.linear_message(message, attention.convolution, attention.radial, prefix + "ga.", irreps)
        heads = times(self.head, self.config.n_heads)
        self.linear(attention.project, self.foreign(prefix + "ga.proj", heads, self.hidden))
        inner = block.feed_forward.irreps
        self.norm(block.norm_feed_forward, prefix + "norm_2", self.hidden, inner)
        up = self.foreign(prefix + "ffn.fctp_1", self.hidden, _gate_inputs(self.inside))
        self.linear(block.feed_forward.linear_up, _with_gates(up, self.inside, block.feed_forward.gate.irreps_out))
        out = self.features if last else self.hidden
        self.linear(block.feed_forward.linear_down, self.foreign(prefix + "ffn.fctp_2", self.inside, out))
        if block.shortcut is not None:
            self.linear(block.shortcut, self.foreign(prefix + "ffn_shortcut", self.hidden, out))

    def nonlinear(
        self,
        message: NonlinearMessage,
        convolution: TensorProductConvolution,
        radial: RadialProfile,
        prefix: str,
        irreps: Irreps,
    ) -> None:
        signs = signs_of(self.weights, prefix + "sep_act.dtp.tp.")
        product = ForeignProduct(self.hidden, self.edge, self.hidden, signs)
        self.radial(radial, prefix + "sep_act.dtp_rad.", product, convolution, irreps)
        rows = product.rows_of(convolution, irreps)
        gated = message.gate.irreps_out
        linear = self.foreign(prefix + "sep_act.lin", product.irreps_out, _gate_inputs(self.hidden))
        linear = _with_gates(linear, self.hidden, gated)
        scalars = (Block(EVEN_SCALAR, self.config.n_heads * message.score.weight.shape[1]),)
        score = self.foreign(prefix + "sep_alpha", product.irreps_out, scalars)
        self.linear(message.linear, _beside(linear, score), rows)
        self.score(message.score.weight, message.score.scale, prefix)
        heads = times(self.head, self.config.n_heads)
        signs = signs_of(self.weights, prefix + "sep_value.dtp.tp.")
        second = ForeignProduct(self.hidden, self.edge, self.head, signs)
        weight = self.vector(prefix + "sep_value.dtp.tp.weight", second.n_weights) * second.signs
        value = self.foreign(prefix + "sep_value.lin", second.irreps_out, heads)
        matrices = {irrep: matrix.clone() for irrep, matrix in value.matrices.items()}
        for name, columns in second.columns.items():
            if name[2] in matrices:
                matrices[name[2]][second.rows[name]] *= weight[columns].unsqueeze(1)
        self.linear(message.value, ForeignLinear(matrices, value.bias), second.rows_of(message.product, gated))

    def linear_message(
        self,
        message: LinearMessage,
        convolution: TensorProductConvolution,
        radial: RadialProfile,
        prefix: str,
        irreps: Irreps,
    ) -> None:
        """Scalars of scores and values alternate, head by head."""
        signs = signs_of(self.weights, prefix + "sep.dtp.tp.")
        product = ForeignProduct(self.hidden, self.edge, self.head, signs)
        self.radial(radial, prefix + "sep.dtp_rad.", product, convolution, irreps)
        heads = times(self.head, self.config.n_heads)
        n_scores = message.score.weight.shape[1]
        n_values = channels_of(self.head, EVEN_SCALAR)
        both = tuple(
            Block(b.irrep, b.n_channels + self.config.n_heads * n_scores * (b.irrep == EVEN_SCALAR)) for b in heads
        )
        linear = self.foreign(prefix + "sep.lin", product.irreps_out, both)
        channels = torch.arange(self.config.n_heads * (n_scores + n_values)).reshape(self.config.n_heads, -1)
        order = torch.cat([channels[:, :n_scores].flatten(), channels[:, n_scores:].flatten()])
        linear.matrices[EVEN_SCALAR] = linear.matrices[EVEN_SCALAR][:, order]
        self.linear(
            message.linear,
            ForeignLinear(linear.matrices, cast(Tensor, linear.bias)[order]),
            product.rows_of(convolution, irreps),
        )
        self.score(message.score.weight, message.score.scale, prefix)

    def score(self, parameter: Tensor, scale: float, prefix: str) -> None:
        name = prefix + "alpha_dot"
        value = self.weights.take(name)
        _expect(value, [1, *parameter.shape], name)
        _set(parameter, value[0] / scale, name)

    def radial(
        self,
        radial: RadialProfile,
        prefix: str,
        product: ForeignProduct,
        convolution: TensorProductConvolution,
        irreps: Irreps,
    ) -> None:
        """The radial network of a tensor product, without the weights of paths that do not exist here."""
        take = self.weights.take
        for k in range(radial.n_hidden):
            name = f"{prefix}net.{3 * k}."
            _set(radial.weights[k], take(name + "weight").t() / radial.scales[k], name + "weight")
            _set(radial.biases[k], take(name + "bias"), name + "bias")
            name = f"{prefix}net.{3 * k + 1}."
            _set(radial.norm_weights[k], take(name + "weight"), name + "weight")
            _set(radial.norm_biases[k], take(name + "bias"), name + "bias")
        name, columns = f"{prefix}net.{3 * radial.n_hidden}.weight", product.columns_of(convolution, irreps)
        weight, offset = take(name), self.vector(prefix + "offset", product.n_weights)
        _expect(weight, [product.n_weights, radial.weights[-1].shape[0]], name)
        weight, offset = weight * product.signs.unsqueeze(1), offset * product.signs
        _set(radial.weights[-1], weight[columns].t() / radial.scales[-1], name)
        _set(radial.offset, offset[columns], prefix + "offset")

    def norm(self, norm: EquivariantLayerNorm, name: str, foreign: Irreps, ours: Irreps) -> None:
        values = self.vector(name + ".affine_weight", sum(block.n_channels for block in foreign))
        pieces = dict(zip([b.irrep for b in foreign], values.split([b.n_channels for b in foreign]), strict=True))
        for parameter, block in zip(norm.weights, ours, strict=True):
            _set(parameter, pieces[block.irrep], name + ".affine_weight")
        _set(norm.bias, self.weights.take(name + ".affine_bias"), name + ".affine_bias")

    def foreign(self, name: str, irreps_in: Irreps, irreps_out: Irreps, bias: bool = True) -> ForeignLinear:
        """LinearRS or FullyConnectedTensorProductRescale with one scalar: flat weights, input block outer."""
        flat = self.weights.take(name + ".tp.weight")
        shapes = {
            block.irrep: (block.n_channels, channels_of(irreps_out, block.irrep))
            for block in irreps_in
            if channels_of(irreps_out, block.irrep)
        }
        _expect(flat, [sum(n_in * n_out for n_in, n_out in shapes.values())], name + ".tp.weight")
        pieces = flat.split([n_in * n_out for n_in, n_out in shapes.values()])
        matrices = {irrep: piece.reshape(shape) for (irrep, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return ForeignLinear(
            matrices, self.vector(name + ".bias.0", channels_of(irreps_out, EVEN_SCALAR)) if bias else None
        )

    def vector(self, name: str, n: int) -> Tensor:
        """A weight of n numbers."""
        value = self.weights.take(name)
        _expect(value, [n], name)
        return value

    def linear(self, linear: IrrepsLinear, foreign: ForeignLinear, rows: Mapping[Irrep, Tensor] | None = None) -> None:
        """Fill a linear map.  Args: rows: foreign input channel of each channel here, by irrep; None: the same"""
        for parameter, (_, target), scale in zip(linear.weights, linear.matrices, linear.scales, strict=True):
            irrep = linear.irreps_out[target].irrep
            matrix = foreign.matrices[irrep]
            _set(parameter, (matrix if rows is None else matrix[rows[irrep]]) / scale, "linear map")
        if linear.bias is not None:
            _set(linear.bias, cast(Tensor, foreign.bias), "linear map, bias")


def _gate_inputs(irreps: Irreps) -> Irreps:
    """Even scalars, with one gate for each channel of the others."""
    gates = sum(block.n_channels for block in irreps if block.irrep != EVEN_SCALAR)
    return with_more_scalars(irreps, gates)


def _with_gates(linear: ForeignLinear, irreps: Irreps, kept: Irreps) -> ForeignLinear:
    """A linear map into a gate, without the gates of blocks that do not exist here."""
    first = channels_of(irreps, EVEN_SCALAR)
    columns, present = [torch.arange(first)], {block.irrep for block in kept}
    for block in irreps:
        if block.irrep != EVEN_SCALAR:
            if block.irrep in present:
                columns.append(torch.arange(first, first + block.n_channels))
            first += block.n_channels
    chosen = torch.cat(columns)
    scalars = linear.matrices[EVEN_SCALAR][:, chosen]
    return ForeignLinear(linear.matrices | {EVEN_SCALAR: scalars}, cast(Tensor, linear.bias)[chosen])


def _beside(one: ForeignLinear, other: ForeignLinear) -> ForeignLinear:
    """Both maps of even scalars, columns of the second behind those of the first."""
    scalars = torch.cat([one.matrices[EVEN_SCALAR], other.matrices[EVEN_SCALAR]], 1)
    bias = torch.cat([cast(Tensor, one.bias), cast(Tensor, other.bias)])
    return ForeignLinear(one.matrices | {EVEN_SCALAR: scalars}, bias)


def _expect(value: Tensor, shape: Sequence[int], name: str) -> None:
    if list(value.shape) != list(shape):
        raise PotentialError(
            "EQ4337",
            f"{name}: shape {tuple(value.shape)}, the configuration explains {tuple(shape)}; "
            "give the configuration the weights were trained with",
        )


def _set(parameter: Tensor, value: Tensor, name: str) -> None:
    _expect(value, list(parameter.shape), name)
    parameter.copy_(value)
