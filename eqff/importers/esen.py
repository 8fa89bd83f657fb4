"""eSEN's own code (fairchem `esen_backbone`, energy head) -> eqff's eSCN: configuration and weights, by rule.

What differs and is translated here: names; linear maps stored as [n_out, n_in] without the factor 1 / sqrt(fan_in);
embeddings of sender and receiver, multiplied into the first map of every radial network; the norm of Bessel functions.
An option that changes the mathematics and has no counterpart here is refused, as is every weight not accounted for.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from eqff import config as config_io
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, PotentialError
from eqff.importers._contract import Imported, StateDict
from eqff.models.escn import Config, Interaction, Model
from eqff.nn.degree_layers import DegreeLinear, DegreeNorm, ScalarLinear
from eqff.nn.radial import BesselBasis
from eqff.nn.radial_profile import RadialProfile
from eqff.nn.so2 import SO2Linear

FAMILY = "escn"
DERIVED = ("Jd_", "expand_index", "balance_degree_weight", "SO3_grid", "mappingReduced", "distance_expansion.offset")
OPTIONS: dict[str, list[Any]] = {
    "act_type": ["gate"],
    "mlp_type": ["spectral"],
    "norm_type": ["rms_norm_sh"],
    "use_envelope": [True],
    "direct_forces": [False],
    "distance_function": ["bessel", "gaussian"],
}
REQUIRED = ("act_type", "mlp_type", "use_envelope", "cutoff")  # without them the original has other defaults
FEWEST_NEIGHBORS = 100  # a smaller cap of neighbours acts in dense structures
DEGREE_FACTOR = 5.0  # by which the original divides its degree embedding


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """A foreign configuration and state dict -> Config and Model that compute the same.

    Args:    foreign: arguments of eSEN's backbone, or a mapping that has them under `backbone`; state: its state dict
             as arrays. Beside the network it may hold fairchem's `normalizers.energy.{mean,rmsd}` and
             `elementrefs.energy.element_references`, which become energy_scale and reference_energies
    Returns: Imported, float64; species are Z = 1, 2, ... as far as the embedding reaches
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size; ConfigError for an option
             that changes the mathematics and has no counterpart here
    """
    foreign = foreign.get("backbone", foreign)
    check_options(foreign)
    weights = Weights(state)
    config = make_config(foreign, weights)
    model = Model(config).to(torch.float64)
    with torch.no_grad():
        fill(model, config, weights)
    weights.finish()
    return Imported(config, model)


class Weights(StateDict):
    """eSEN's state dict.

    Names are read from `backbone.` or `energy_block.` on; any prefix is ignored.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        super().__init__({})
        for name, array in state.items():
            if any(mark in name for mark in DERIVED):
                continue
            for mark in ("backbone.", "energy_block.", "normalizers.", "elementrefs."):
                if mark in name:
                    name = name[name.index(mark) :].removeprefix("backbone.")
                    break
            self.arrays[name] = np.asarray(array)
        if "sphere_embedding.weight" not in self.arrays:
            raise PotentialError("EQ4340", "weights: no backbone.sphere_embedding; give the weights of an eSEN model")

    def count(self, start: str, end: str = "") -> int:
        """How many consecutive numbers from 0 occur between start and end."""
        n = 0
        while any(name.startswith(f"{start}{n}.") and name.endswith(end) for name in self.arrays):
            n += 1
        return n


def check_options(foreign: Mapping[str, Any]) -> None:
    """Raises: ConfigError if the foreign model uses an option that has no counterpart here, or leaves one open."""
    missing = [key for key in REQUIRED if key not in foreign]
    if missing:
        raise ConfigError("EQ1088", f"config lacks {', '.join(missing)}; give all arguments of the eSEN backbone")
    for key, values in OPTIONS.items():
        if key in foreign and foreign[key] not in values:
            known = " or ".join(map(repr, values))
            raise ConfigError(
                "EQ1089",
                f"{key}={foreign[key]!r}: as a conservative, smooth model only {known} exists; "
                "a model with another value cannot be imported",
            )
    cap = foreign.get("max_neighbors")
    if cap is not None and cap < FEWEST_NEIGHBORS:
        raise ConfigError(
            "EQ1936", f"max_neighbors={cap}: eqff sums over all neighbours; a cap below {FEWEST_NEIGHBORS} is refused"
        )


def readout_names(weights: Weights) -> list[str]:
    """Linear maps of the energy head, in order: energy_block.0, .2, .4, ..."""
    numbers = {name.split(".")[1] for name in weights.arrays if name.startswith("energy_block.")}
    return [f"energy_block.{number}" for number in sorted(numbers, key=int)]


def make_config(foreign: Mapping[str, Any], weights: Weights) -> Config:
    """The Config of eqff, with sizes taken from the weights."""
    n_elements, n_channels = weights.shape("sphere_embedding.weight")
    n_species = n_elements - 1  # row 0 stands for no element
    first = "blocks.0.edge_wise.so2_conv_1."
    l_max = weights.shape("norm.affine_weight")[0] - 1
    bessel = "distance_expansion.rbf.frequencies" in weights.arrays
    n_edge = weights.shape("source_embedding.weight")[1]
    n_in = weights.shape(first + "rad_func.net.0.weight")[1]
    layers = weights.count("blocks.")
    stated = {
        "lmax": l_max,
        "num_layers": layers,
        "sphere_channels": n_channels,
        "num_distance_basis": n_in - 2 * n_edge,
    }
    for key, found in stated.items():
        if foreign.get(key, found) != found:
            raise PotentialError(
                "EQ4343",
                f"{key}={foreign[key]}, but the weights are for {found}; "
                "give the configuration the weights were trained with",
            )
    fields = {
        "species": SYMBOLS[1:n_elements],
        "r_max": float(foreign["cutoff"]),
        "l_max": l_max,
        "m_max": weights.count(first + "so2_m_conv."),
        "symmetry": "SE(3)" if has_imaginary(weights) else "O(3)",
        "n_channels": n_channels,
        "n_hidden": weights.shape("blocks.0.atom_wise.so3_linear_1.bias")[0],
        "n_layers": layers,
        "radial_basis": "bessel" if bessel else "gaussian",
        "n_basis": n_in - 2 * n_edge,
        "bessel_trainable": bessel,
        "radial_hidden": (n_edge, n_edge),
        "readout_hidden": tuple(weights.shape(f"{name}.weight")[0] for name in readout_names(weights)[:-1]),
        "avg_num_neighbors": DEGREE_FACTOR,
        **energies(weights, n_species),
    }
    return config_io.from_mapping(Config, fields, where="imported config")


def energies(weights: Weights, n_species: int) -> dict[str, Any]:
    """energy_scale and reference_energies, from fairchem's normaliser and element references if they are there."""
    fields: dict[str, Any] = {"energy_scale": 1.0}
    prefix = "normalizers.energy."
    if prefix + "rmsd" in weights.arrays:
        fields["energy_scale"] = float(weights.take(prefix + "rmsd").reshape(()))
        mean = float(weights.take(prefix + "mean").reshape(())) if prefix + "mean" in weights.arrays else 0.0
        if mean != 0.0:
            raise PotentialError(
                "EQ4344",
                f"{prefix}mean={mean} eV of every structure, whatever its size: no energy of atoms is like that; "
                "a model with such a mean cannot be imported",
            )
    name = "elementrefs.energy.element_references"
    if name in weights.arrays:
        references = weights.take(name).reshape(-1)[1 : n_species + 1]
        if len(references) != n_species:
            raise PotentialError(
                "EQ4345", f"{name}: {len(references)} numbers for {n_species} elements; give one for each element"
            )
        fields["reference_energies"] = tuple(references.tolist())
    return fields


def has_imaginary(weights: Weights) -> bool:
    """Whether any weight couples +m with -m."""
    halves = [a[len(a) // 2 :] for name, a in weights.arrays.items() if ".so2_m_conv." in name]
    return any(bool(half.any()) for half in halves)


def fill(model: Model, config: Config, weights: Weights) -> None:
    """All weights of the model."""
    weights.arrays["sphere_embedding.weight"] = weights.arrays["sphere_embedding.weight"][1:]
    put(model.embedding, weights, "sphere_embedding.weight")
    factor = 1.0
    if config.radial_basis == "bessel":
        basis = cast(BesselBasis, model.basis)
        put(basis.frequency, weights, "distance_expansion.rbf.frequencies", 1.0 / math.pi)
        factor = math.sqrt(config.r_max / 2.0)  # sqrt(2 / r_max^3) r_max instead of 2 / r_max
    ends = [weights.take(f"{side}_embedding.weight")[1:] for side in ("source", "target")]
    fill_radial(model.degree.radial, weights, "edge_degree_embedding.rad_func", factor, ends)
    for k, layer in enumerate(cast(list[Interaction], list(model.layers))):
        prefix = f"blocks.{k}."
        fill_norm(layer.norm_edges, weights, prefix + "norm_1")
        fill_radial(layer.radial, weights, prefix + "edge_wise.so2_conv_1.rad_func", factor, ends)
        fill_so2(layer.linear_in, weights, prefix + "edge_wise.so2_conv_1")
        fill_so2(layer.linear_out, weights, prefix + "edge_wise.so2_conv_2")
        fill_norm(layer.norm_atoms, weights, prefix + "norm_2")
        fill_linear(layer.feed_forward.gate, weights, prefix + "atom_wise.scalar_mlp.0")
        fill_linear(layer.feed_forward.linear_in, weights, prefix + "atom_wise.so3_linear_1")
        fill_linear(layer.feed_forward.linear_out, weights, prefix + "atom_wise.so3_linear_2")
    fill_norm(model.norm, weights, "norm")
    readout = cast(list[ScalarLinear], [*model.readout_layers, model.output])
    for linear, name in zip(readout, readout_names(weights), strict=True):
        fill_linear(linear, weights, name)


def fill_norm(norm: DegreeNorm, weights: Weights, name: str) -> None:
    put(norm.weight, weights, name + ".affine_weight")
    put(norm.bias, weights, name + ".affine_bias")


def fill_linear(linear: ScalarLinear | DegreeLinear, weights: Weights, name: str) -> None:
    put(linear.weight, weights, name + ".weight", 1.0 / linear.scale)
    put(linear.bias, weights, name + ".bias")


def fill_so2(linear: SO2Linear, weights: Weights, name: str) -> None:
    for m, weight in enumerate(linear.weights):
        source = f"{name}.so2_m_conv.{m - 1}.fc.weight" if m else f"{name}.fc_m0.weight"
        if m and linear.reflections:  # the other half is zero
            weights.arrays[source] = weights.arrays[source][: weight.shape[1]]
        put(weight, weights, source, 1.0 / linear.scales[m])
    put(linear.bias, weights, name + ".fc_m0.bias")


def fill_radial(radial: RadialProfile, weights: Weights, name: str, factor: float, ends: list[Tensor]) -> None:
    """Basis functions times factor; embeddings of both ends [n_species, n_edge] become rows for species."""
    first = weights.take(f"{name}.net.0.weight")
    n_edge = ends[0].shape[1]
    n_basis = first.shape[1] - 2 * n_edge
    basis, source, target = first.split([n_basis, n_edge, n_edge], 1)
    rows = torch.cat([basis.t() * factor, ends[0] @ source.t(), ends[1] @ target.t()])
    weights.arrays[f"{name}.net.0.weight"] = rows.t().numpy()
    for k, weight in enumerate(radial.weights):
        put(weight, weights, f"{name}.net.{3 * k}.weight", 1.0 / radial.scales[k])
        bias = radial.offset if k == len(radial.weights) - 1 else radial.biases[k]
        put(bias, weights, f"{name}.net.{3 * k}.bias")
    for k, (weight, bias) in enumerate(zip(radial.norm_weights, radial.norm_biases, strict=True)):
        put(weight, weights, f"{name}.net.{3 * k + 1}.weight")
        put(bias, weights, f"{name}.net.{3 * k + 1}.bias")


def put(parameter: Tensor, weights: Weights, name: str, factor: float = 1.0) -> None:
    """Fill a parameter with a foreign array times a factor; its matrices are transposed.

    Raises: PotentialError if it does not fit
    """
    value = weights.take(name) * factor
    if value.dim() > 1 and name.endswith(".weight") and not name.endswith("embedding.weight"):
        value = value.transpose(-1, -2)
    if value.numel() != parameter.numel() or (
        parameter.dim() > 1 and value.dim() > 1 and value.shape != parameter.shape
    ):
        raise PotentialError(
            "EQ4346",
            f"{name}: shape {tuple(value.shape)}, expected {tuple(parameter.shape)}; "
            "give the configuration the weights were trained with",
        )
    parameter.copy_(value.reshape(parameter.shape))
