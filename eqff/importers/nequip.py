"""NequIP's own codes -> eqff: configuration and weights of nequip >= 0.7 and of nequip 0.5 / 0.6, by rule.

What differs and is translated here: names; e3nn's flat weights and its sorted storage of irreps; the order of radial
weights (instructions of the tensor product); species embeddings multiplied into the self-connection.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from eqff import config as config_io
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, PotentialError
from eqff.models.nequip import Config, Interaction, Model
from eqff.nn.mlp import ScalarMLP
from eqff.o3.irreps import Irreps, parse, sorted_irreps, tensor_product_paths, to_text

IGNORED = (".bias", "output_mask", "_w3j", ".tp.weight", ".mul.weight", "_empty", "_rmax_recip", "_rmax", "_dim")


class Imported(NamedTuple):
    """A foreign model as one of ours."""

    config: Config
    model: Model  # float64


def read_npz(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configuration (`config`, JSON) and weights (`w/*`) of an npz file.  Raises: PotentialError without them."""
    import json

    with np.load(path, allow_pickle=False) as file:
        if "config" not in file.files:
            raise PotentialError("EQ4301", f"{path}: has no 'config'; expected an npz with config and w/<name> arrays")
        weights = {name[2:]: file[name] for name in file.files if name.startswith("w/")}
        return json.loads(str(file["config"])), weights


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """A foreign configuration and state dict -> Config and Model that compute the same.

    Args:    foreign: arguments of nequip's model builder; state: its state dict as arrays
    Returns: Imported, float64
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size; ConfigError for an option
             that changes the mathematics and has no counterpart here
    """
    weights = Weights(state)
    legacy = "feature_irreps_hidden" in foreign or "chemical_embedding_irreps_out" in foreign
    legacy = legacy or any("chemical_embedding" in name for name in state)
    config = published_config(foreign, weights) if legacy else current_config(foreign, weights)
    model = Model(config).to(torch.float64)
    with torch.no_grad():
        (fill_published if legacy else fill_current)(model, config, weights)
    weights.finish()
    return Imported(config, model)


class Weights:
    """A state dict whose entries are taken one by one; nothing may be missing or left over."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.arrays = {name: array for name, array in state.items() if not _ignored(name, array)}
        marks = ("type_embed.", "chemical_embedding.")
        anchors = [name for name in self.arrays if any(mark in name for mark in marks)]
        if not anchors:
            raise PotentialError("EQ4302", "weights: no type_embed and no chemical_embedding; not a NequIP model")
        self.prefix = anchors[0][: min(anchors[0].index(mark) for mark in marks if mark in anchors[0])]

    def has(self, name: str) -> bool:
        return self.prefix + name in self.arrays

    def take(self, name: str) -> Tensor:
        """The array of this name (without prefix), float64.  Raises: PotentialError if there is none."""
        if not self.has(name):
            raise PotentialError("EQ4303", f"weights: {self.prefix}{name} is missing")
        return torch.tensor(np.asarray(self.arrays.pop(self.prefix + name)), dtype=torch.float64)

    def layers(self, pattern: str) -> list[str]:
        """Names that match a pattern with one running number, in its order."""
        head, tail = pattern.split("{}")
        found = {}
        for name in self.arrays:
            inner = name.removeprefix(self.prefix)
            if inner.startswith(head) and inner.endswith(tail):
                number = inner[len(head) : len(inner) - len(tail)]
                if number.isdigit():
                    found[int(number)] = inner
        return [found[number] for number in sorted(found)]

    def finish(self) -> None:
        """Raises: PotentialError if a weight was not used."""
        if self.arrays:
            raise PotentialError("EQ4304", f"weights: not understood: {', '.join(sorted(self.arrays)[:5])}")


def _ignored(name: str, array: np.ndarray) -> bool:
    return array.size == 0 or any(mark in name for mark in IGNORED) or name.endswith(("_w3j", "cutoff.p", "r_max"))


def _require(foreign: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises: ConfigError if the foreign model uses an option that has no counterpart here."""
    for key, value in expected.items():
        if key in foreign and foreign[key] not in (value if isinstance(value, list) else [value]):
            raise ConfigError("EQ1080", f"{key}={foreign[key]!r}: eqff's NequIP knows only {value!r}")


def _species(foreign: Mapping[str, Any], n_species: int) -> tuple[str, ...]:
    """Symbols in the order of the foreign type index; Z = 1, 2, ... where the file names none."""
    names = foreign.get("type_names") or list(foreign.get("chemical_symbol_to_type", {}))
    if names and isinstance(foreign.get("chemical_symbol_to_type"), Mapping) and "type_names" not in foreign:
        table = foreign["chemical_symbol_to_type"]
        names = sorted(table, key=lambda symbol: table[symbol])
    if not names:
        names = SYMBOLS[1 : n_species + 1]
    if len(names) != n_species:
        raise ConfigError("EQ1081", f"type_names={names}: {n_species} types have weights")
    return tuple(names)


def _per_type(value: Any, species: tuple[str, ...]) -> Any:
    """A number, or one number per type given as mapping or list -> float or tuple."""
    if isinstance(value, Mapping):
        return tuple(float(value[symbol]) for symbol in species)
    return tuple(float(x) for x in value) if isinstance(value, (list, tuple)) else float(value)


def current_config(foreign: Mapping[str, Any], weights: Weights) -> Config:
    """nequip >= 0.7: arguments of NequIPGNNModel."""
    _require(foreign, {"resnet": False, "convnet_resnet": False, "nonlinearity_type": "gate"})
    _require(foreign, {"convnet_nonlinearity_type": "gate", "pair_potential": None})
    n_species = weights.arrays[weights.prefix + "type_embed.embed_module.weight"].shape[0]
    species = _species(foreign, n_species)
    l_max = int(foreign["l_max"])
    features = foreign["num_features"]
    irreps = str(foreign.get("feature_irreps_hidden", "")) or ""
    shifts, scales = torch.zeros(n_species, dtype=torch.float64), torch.ones(n_species, dtype=torch.float64)
    for name, target in (("shifts", shifts), ("scales", scales)):
        if weights.has(f"per_type_energy_scale_shift.{name}"):
            target.copy_(weights.take(f"per_type_energy_scale_shift.{name}").reshape(-1).expand(n_species))
    readouts = weights.layers("per_atom_energy_readout.mlp_module.mlp.{}.weight")
    mlps = weights.layers("layer0_convnet.conv.edge_mlp.mlp.{}.weight")
    return config_io.from_mapping(
        Config,
        {
            "species": species,
            "r_max": float(foreign["r_max"]),
            "l_max": l_max,
            "parity": "both" if foreign.get("parity", True) else "natural",
            "n_channels": int(features) if isinstance(features, int) else tuple(int(n) for n in features),
            "n_layers": int(foreign["num_layers"]),
            "n_bessel": int(foreign.get("num_bessels", 8)),
            "bessel_trainable": bool(foreign.get("bessel_trainable", False)),
            "envelope_power": int(foreign.get("polynomial_cutoff_p", 6)),
            "radial_hidden": [weights.arrays[weights.prefix + name].shape[1] for name in mlps[:-1]],
            "readout_hidden": [weights.arrays[weights.prefix + name].shape[1] for name in readouts[:-1]],
            "hidden_irreps": irreps,
            "avg_num_neighbors": _per_type(foreign.get("avg_num_neighbors") or 1.0, species),
            "energy_scale": tuple(scales.tolist()),
            "reference_energies": tuple(shifts.tolist()),
        },
        where="imported config",
    )


def published_config(foreign: Mapping[str, Any], weights: Weights) -> Config:
    """nequip 0.5 and 0.6: keys of its YAML files."""
    _require(foreign, {"resnet": False, "use_sc": True, "nonlinearity_type": "gate"})
    _require(foreign, {"nonlinearity_scalars": {"e": "silu", "o": "tanh"}})
    _require(foreign, {"nonlinearity_gates": [{"e": "silu", "o": "tanh"}, {"e": "silu", "o": "silu"}]})
    embedding = parse(str(foreign.get("chemical_embedding_irreps_out", f"{foreign.get('num_features')}x0e")))
    n_species = weights.arrays[weights.prefix + "chemical_embedding.linear.weight"].size // embedding[0].n_channels
    species = _species(foreign, n_species)
    l_max, natural = int(foreign.get("l_max", 0)), bool(foreign.get("parity", True))
    edge = parse(str(foreign["irreps_edge_sh"])) if "irreps_edge_sh" in foreign else None
    if edge is not None:
        l_max = max(block.irrep.l for block in edge)
        natural = all(block.irrep.p == (-1) ** block.irrep.l for block in edge)
        if len(edge) != l_max + 1:
            raise ConfigError("EQ1082", f"irreps_edge_sh={foreign['irreps_edge_sh']}: expected all degrees from 0")
    hidden = str(foreign.get("feature_irreps_hidden", ""))
    if not hidden:  # simple mode: parity outer, degree inner
        parities = "eo" if natural else "e"
        hidden = " + ".join(f"{foreign['num_features']}x{l}{p}" for p in parities for l in range(l_max + 1))
    shifts, scales = torch.zeros(n_species, dtype=torch.float64), torch.ones(n_species, dtype=torch.float64)
    for name, target in (("shifts", shifts), ("scales", scales)):
        if weights.has(f"per_species_rescale.{name}"):
            target.copy_(weights.take(f"per_species_rescale.{name}").reshape(-1).expand(n_species))
    if weights.has("scale_by"):  # RescaleOutput around everything: E = scale * sum e_i + shift * n_atoms
        factor = weights.take("scale_by").reshape(())
        scales, shifts = scales * factor, shifts * factor
    if weights.has("shift_by"):
        shifts = shifts + weights.take("shift_by").reshape(())
    hidden_out = parse(str(foreign["conv_to_output_hidden_irreps_out"]))
    return config_io.from_mapping(
        Config,
        {
            "species": species,
            "r_max": float(foreign["r_max"]),
            "l_max": l_max,
            "parity": "both" if natural else "none",
            "n_layers": int(foreign["num_layers"]),
            "n_bessel": int(foreign.get("num_basis", 8)),
            "bessel_trainable": bool(foreign.get("BesselBasis_trainable", True)),
            "envelope_power": int(foreign.get("PolynomialCutoff_p", 6)),
            "radial_hidden": [int(foreign["invariant_neurons"])] * int(foreign["invariant_layers"]),
            "readout_hidden": [hidden_out[0].n_channels],
            "architecture": "published",
            "hidden_irreps": to_text(parse(hidden)),
            "avg_num_neighbors": _per_type(foreign.get("avg_num_neighbors") or 1.0, species),
            "energy_scale": tuple(scales.tolist()),
            "reference_energies": tuple(shifts.tolist()),
        },
        where="imported config",
    )


def fill_current(model: Model, config: Config, weights: Weights) -> None:
    """Names of nequip >= 0.7."""
    embedding = weights.take("type_embed.embed_module.weight")
    _set(model.embedding, embedding, "type_embed")
    _set(model.basis.frequency, weights.take("bessel_encode.bessel_weights").reshape(-1), "bessel_encode")
    for k, layer in enumerate(_interactions(model)):
        prefix = f"layer{k}_convnet.conv."
        mlp = weights.layers(prefix + "edge_mlp.mlp.{}.weight")
        fill_layer(layer, config, prefix, weights, [weights.take(name) for name in mlp], embedding)
    readouts = weights.layers("per_atom_energy_readout.mlp_module.mlp.{}.weight")
    for parameter, name in zip(_readouts(model)[0].weights, readouts, strict=True):
        _set(parameter, weights.take(name), name)


def fill_published(model: Model, config: Config, weights: Weights) -> None:
    """Names of nequip 0.5 and 0.6."""
    n_species = len(config.species)
    embedding = weights.take("chemical_embedding.linear.weight").reshape(n_species, -1)
    _set(model.embedding, embedding / math.sqrt(n_species), "chemical_embedding")
    frequencies = weights.take("radial_basis.basis.bessel_weights").reshape(-1) / math.pi
    _set(model.basis.frequency, frequencies, "radial_basis")
    for k, layer in enumerate(_interactions(model)):
        prefix = f"layer{k}_convnet.conv."
        mlp = weights.layers(prefix + "fc.layer{}.weight")
        # the one-hot species are node attributes, with e3nn's 1 / sqrt(n_species) from the fan-in of the product
        fill_layer(layer, config, prefix, weights, [weights.take(name) for name in mlp], torch.eye(n_species).double())
    for readout, name in zip(_readouts(model), ("conv_to_output_hidden", "output_hidden_to_scalar"), strict=True):
        weight = weights.take(f"{name}.linear.weight").reshape(readout.weights[0].shape[0], -1)
        _set(readout.weights[0], weight, name)


def _interactions(model: Model) -> list[Interaction]:
    return cast(list[Interaction], list(model.layers))


def _readouts(model: Model) -> list[ScalarMLP]:
    return cast(list[ScalarMLP], list(model.readout_layers))


def fill_layer(
    layer: Interaction, config: Config, prefix: str, weights: Weights, mlp: list[Tensor], node_attributes: Tensor
) -> None:
    """One interaction block.

    Args: mlp: radial matrices [n_in, n_out]; node_attributes [n_species, n_attributes]: multiply the self-connection
    """
    _fill_blocks(layer.linear_up.weights, layer.irreps_in, layer.irreps_in, weights.take(prefix + "linear_1.weight"))
    mlp[-1] = mlp[-1][:, _radial_columns(layer)]
    for parameter, matrix in zip(layer.radial.weights, mlp, strict=True):
        _set(parameter, matrix, prefix + "radial network")
    # e3nn stores the convolution's output sorted by irrep, and so the matrices behind it
    order = sorted_irreps(block.irrep for block in layer.convolution.irreps_out)
    flat, offset = weights.take(prefix + "linear_2.weight"), 0
    ours = {block.irrep: k for k, block in enumerate(layer.convolution.irreps_out)}
    outputs = {block.irrep: k for k, block in enumerate(layer.gate.irreps_in)}
    if list(ours) != list(outputs):
        raise PotentialError("EQ4305", f"{prefix}: irreps {list(ours)} do not match those of the gate {list(outputs)}")
    for irrep in order:
        parameter = layer.linear_down.weights[ours[irrep]]
        _set(parameter, flat[offset : offset + parameter.numel()].reshape(parameter.shape), prefix + "linear_2")
        offset += parameter.numel()
    _all_used(flat, offset, prefix + "linear_2.weight")
    if layer.self_connection is None:
        return
    flat, offset = weights.take(prefix + "sc.weight"), 0
    n_attributes = node_attributes.shape[1]
    targets = {layer.gate.irreps_in[k].irrep: i for i, k in enumerate(layer.self_connection.outputs)}
    for block in layer.irreps_in:
        if block.irrep not in targets:
            continue
        parameter = layer.self_connection.weights[targets[block.irrep]]  # [n_species, n_in, n_out]
        n_in, n_out = parameter.shape[1:]
        size = n_in * n_attributes * n_out
        cube = flat[offset : offset + size].reshape(n_in, n_attributes, n_out)
        offset += size
        matrix = torch.einsum("sv,uvw->suw", node_attributes, cube) / math.sqrt(n_attributes)
        _set(parameter, matrix, prefix + "sc")
    _all_used(flat, offset, prefix + "sc.weight")


def _radial_columns(layer: Interaction) -> Tensor:
    """For each of our columns of the last radial matrix, the foreign column.

    Foreign order: input block outer, edge degree middle, output irrep inner. Ours: see TensorProductConvolution.
    """
    convolution = layer.convolution
    wanted = {path.irrep_out for path in convolution.paths}
    start, column = {}, 0
    for path in tensor_product_paths(layer.irreps_in, layer.irreps_edge, wanted):
        start[path] = column
        column += layer.irreps_in[path.block].n_channels
    columns = [
        torch.arange(start[path], start[path] + layer.irreps_in[path.block].n_channels) for path in convolution.paths
    ]
    return torch.cat(columns)


def _fill_blocks(parameters: Any, irreps_in: Irreps, irreps_out: Irreps, flat: Tensor) -> None:
    """e3nn's o3.Linear between equal lists of irreps: one matrix [n_in, n_out] after the other."""
    offset = 0
    for parameter, block_in, block_out in zip(parameters, irreps_in, irreps_out, strict=True):
        size = block_in.n_channels * block_out.n_channels
        _set(parameter, flat[offset : offset + size].reshape(parameter.shape), "linear_1")
        offset += size
    _all_used(flat, offset, "linear_1.weight")


def _all_used(flat: Tensor, used: int, name: str) -> None:
    if used != flat.numel():
        raise PotentialError("EQ4306", f"{name}: has {flat.numel()} numbers, the configuration explains {used}")


def _set(parameter: Tensor, value: Tensor, name: str) -> None:
    if parameter.shape != value.shape:
        raise PotentialError("EQ4307", f"{name}: shape {tuple(value.shape)}, expected {tuple(parameter.shape)}")
    parameter.copy_(value)
