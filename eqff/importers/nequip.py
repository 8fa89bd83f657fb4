"""NequIP's own codes -> eqff: configuration and weights of nequip >= 0.7 and of nequip 0.5 / 0.6, by rule.

What differs and is translated here: names; e3nn's flat weights and its sorted storage of irreps; the order of radial
weights (instructions of the tensor product); species embeddings multiplied into the self-connection.
An option that changes the mathematics and has no counterpart here is refused, as is every weight not accounted for.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from eqff import config as config_io
from eqff.elements import ATOMIC_NUMBERS, SYMBOLS
from eqff.errors import ConfigError, PotentialError
from eqff.importers._contract import Imported, StateDict
from eqff.importers._e3nn import W3J, coupling_signs, cut, put, put_all, radial_columns
from eqff.models.nequip import Config, Interaction, Model
from eqff.nn.gate import EVEN_SCALAR
from eqff.nn.mlp import ScalarMLP
from eqff.o3.irreps import parse, sorted_irreps, spherical_harmonics_irreps, to_text

FAMILY = "nequip"
# where a configuration names the elements of its types; Z = 1, 2, ... where none of these is given
SPECIES_KEYS = ("type_names", "chemical_symbol_to_type", "chemical_symbols")
DERIVED = (W3J, "output_mask")  # in names of arrays that follow from the configuration
GATE = {"e": "silu", "o": "tanh"}
CURRENT_OPTIONS: dict[str, list[Any]] = {
    "convnet_resnet": [False],
    "convnet_sc": [True],
    "learnable_shift": [False],
    "convnet_nonlinearity_type": ["gate"],
    "convnet_nonlinearity_scalars": [GATE],
    "readout_mlp_nonlinearity": ["silu", None, "None", "null"],
    "pair_potential": [None],
    "per_edge_type_cutoff": [None],
    "categorical_graph_field_embed": [None, []],
}
PUBLISHED_OPTIONS: dict[str, list[Any]] = {
    "resnet": [False],
    "use_sc": [True],
    "nonlinearity_type": ["gate"],
    "nonlinearity_scalars": [GATE],
    "edge_sh_normalization": ["component"],
    "edge_sh_normalize": [True],
    "pair_style": [None],
}
PRESETS: dict[str, dict[str, Any]] = {  # of PresetNequIPGNNModel; all without extra parity
    "S": {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """A foreign configuration and state dict -> Config and Model that compute the same.

    Args:    foreign: arguments of nequip's model builder (>= 0.7), or the keys of its YAML file (0.5, 0.6); for 0.7 to
             0.15 also `nequip_version`, because l_max, parity and num_features meant other irreps before 0.16;
             state: its state dict as arrays
    Returns: Imported, float64
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size; ConfigError for an option
             that changes the mathematics and has no counterpart here
    """
    weights = Weights(state)
    if any(name.startswith("chemical_embedding.") for name in weights.arrays):
        config = published_config(foreign, weights)
        model = Model(config).to(torch.float64)
        with torch.no_grad():
            fill_published(model, weights)
    else:
        readout = [weights.take(name) for name in readout_names(weights)]
        readout = merged_readout(readout, foreign.get("readout_mlp_nonlinearity", "silu"))
        config = current_config(foreign, weights, readout)
        model = Model(config).to(torch.float64)
        with torch.no_grad():
            fill_current(model, weights, readout)
    weights.finish()
    return Imported(config, model)


class Weights(StateDict):
    """NequIP's state dict.

    Names are kept without the prefix of the network, which wrappers for forces, stress and rescaling make longer.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        marks = ("type_embed.", "chemical_embedding.")
        prefixes = {name[: name.index(mark)] for name in state for mark in marks if mark in name}
        if not prefixes:
            raise PotentialError(
                "EQ4302", "weights: no type_embed and no chemical_embedding; give the weights of a NequIP model"
            )
        prefix = min(prefixes, key=len)
        derived = {name for name in state if any(mark in name for mark in DERIVED)}
        couplings = {name for name in derived if ".tp." in name and W3J in name}  # others have l = 0
        kept = {name: np.asarray(array) for name, array in state.items() if name not in derived - couplings}
        super().__init__({name.removeprefix(prefix): array for name, array in kept.items() if array.size > 0})

    def take_number(self, ending: str, default: float) -> float:
        """The only number whose name ends like this, in any module; `default` if there is none."""
        names = [name for name in self.arrays if name.split(".")[-1] == ending and self.arrays[name].size == 1]
        return float(self.take(names[0]).reshape(())) if names else default

    def numbered(self, pattern: str) -> list[str]:
        """Names that match a pattern with one number, in the order of that number."""
        head, tail = pattern.split("{}")
        found = {}
        for name in self.arrays:
            number = name[len(head) : len(name) - len(tail)]
            if name.startswith(head) and name.endswith(tail) and number.isdigit():
                found[int(number)] = name
        return [found[number] for number in sorted(found)]


def current_config(foreign: Mapping[str, Any], weights: Weights, readout: list[Tensor]) -> Config:
    """nequip >= 0.7: arguments of NequIPGNNModel, PresetNequIPGNNModel or FullNequIPGNNModel."""
    if "preset" in foreign:
        name = str(foreign["preset"]).upper()
        if name not in PRESETS:
            raise ConfigError("EQ1930", f"preset={foreign['preset']!r} is unknown; choose from {', '.join(PRESETS)}")
        foreign = {"parity": False, **PRESETS[name], **foreign}
    _require(foreign, CURRENT_OPTIONS)
    _require_gates(foreign, "convnet_nonlinearity_gates")
    embedding = weights.shape("type_embed.embed_module.weight")
    species = _type_names(foreign.get("type_names"), embedding[0])
    if "feature_irreps_hidden" in foreign:  # FullNequIPGNNModel: spelled out for every layer
        irreps, n_layers = _hidden_irreps_of_layers(foreign["feature_irreps_hidden"])
        shape = {"hidden_irreps": irreps, "n_layers": n_layers} | _edge_irreps(foreign["irreps_edge_sh"])
    else:
        l_max, features = _whole(foreign, "l_max", 1), foreign.get("num_features", 32)
        shape = {"n_layers": _whole(foreign, "num_layers", 4), "l_max": l_max}
        if _is_before(foreign, (0, 16)):
            hidden, edge = _simple_irreps(_whole(foreign, "num_features", 32), l_max, foreign.get("parity", True))
            shape |= {"hidden_irreps": hidden} | _edge_irreps(edge)
        else:
            shape["n_channels"] = features if isinstance(features, int) else tuple(features)
            shape["parity"] = "both" if foreign.get("parity", True) else "natural"
    reciprocal = weights.take_number("_rmax_recip", 1.0 / float(foreign["r_max"]))
    if not math.isclose(reciprocal * float(foreign["r_max"]), 1.0, rel_tol=1e-6):
        raise PotentialError(
            "EQ4308",
            f"r_max={foreign['r_max']} Å, but the weights are for {1.0 / reciprocal:.6f} Å; "
            "give the configuration the weights were trained with",
        )
    return _config(
        foreign,
        weights,
        species,
        {
            **shape,
            "n_embedding": embedding[1],
            "n_bessel": _whole(foreign, "num_bessels", 8),
            "bessel_trainable": bool(foreign.get("bessel_trainable", False)),
            "envelope_power": _whole(foreign, "polynomial_cutoff_p", 6),
            "radial_hidden": _hidden_widths(weights, "layer0_convnet.conv.edge_mlp.mlp.{}.weight"),
            "readout_hidden": [matrix.shape[1] for matrix in readout[:-1]],
        },
        "per_type_energy_scale_shift",
    )


def published_config(foreign: Mapping[str, Any], weights: Weights) -> Config:
    """nequip 0.5 and 0.6: keys of its YAML files, irreps spelled out or "simple" (l_max, parity, num_features)."""
    _require(foreign, PUBLISHED_OPTIONS)
    _require_gates(foreign, "nonlinearity_gates")
    n_features = _whole(foreign, "num_features", 0)
    hidden, edge = _simple_irreps(n_features, _whole(foreign, "l_max", 0), foreign.get("parity", True))
    embedding = parse(str(foreign.get("chemical_embedding_irreps_out", f"{n_features}x0e")))
    readout = parse(str(foreign.get("conv_to_output_hidden_irreps_out", f"{max(1, n_features // 2)}x0e")))
    for name, irreps in (("chemical_embedding", embedding), ("conv_to_output_hidden", readout)):
        if len(irreps) != 1 or irreps[0].irrep != EVEN_SCALAR:
            raise ConfigError(
                "EQ1931",
                f"{name}_irreps_out={to_text(irreps)}: eqff's NequIP knows only even scalars; "
                "train the foreign model with even scalars there",
            )
    n_species = math.prod(weights.shape("chemical_embedding.linear.weight")) // embedding[0].n_channels
    scale, shift = weights.take_number("scale_by", 1.0), weights.take_number("shift_by", 0.0)
    if shift != 0.0:
        raise ConfigError(
            "EQ1084",
            f"global_rescale_shift={shift} eV per structure: not proportional to the number of atoms, so no potential; "
            "train with per_species_rescale_shifts instead",
        )
    return _config(
        foreign,
        weights,
        _published_species(foreign, n_species),
        {
            "architecture": "published",
            "hidden_irreps": to_text(parse(str(foreign.get("feature_irreps_hidden", hidden)))),
            **_edge_irreps(foreign.get("irreps_edge_sh", edge)),
            "n_layers": _whole(foreign, "num_layers", 3),
            "n_embedding": embedding[0].n_channels,
            "n_bessel": _whole(foreign, "num_basis", 8),
            "bessel_trainable": bool(foreign.get("BesselBasis_trainable", True)),
            "envelope_power": _whole(foreign, "PolynomialCutoff_p", 6),
            "radial_hidden": _hidden_widths(weights, "layer0_convnet.conv.fc.layer{}.weight"),
            "readout_hidden": [readout[0].n_channels],
        },
        "per_species_rescale",
        scale,
    )


def _config(
    foreign: Mapping[str, Any],
    weights: Weights,
    species: tuple[str, ...],
    fields: dict[str, Any],
    rescaling: str,
    factor: float = 1.0,
) -> Config:
    """Configuration that both architectures share.

    Args: rescaling: name of the module with scales and shifts; factor: multiplies both
    """
    energies = {}
    for name, default in (("scales", 1.0), ("shifts", 0.0)):
        values = torch.full((1,), default, dtype=torch.float64)
        if weights.has(f"{rescaling}.{name}"):
            values = weights.take(f"{rescaling}.{name}").reshape(-1)
        if len(values) not in (1, len(species)):
            raise PotentialError(
                "EQ4921",
                f"{rescaling}.{name}: {len(values)} numbers for {len(species)} types; "
                "give the configuration the weights were trained with",
            )
        energies[name] = tuple((factor * values.expand(len(species))).tolist())
    fields |= {
        "species": species,
        "r_max": float(foreign["r_max"]),
        "avg_num_neighbors": _neighbors(foreign.get("avg_num_neighbors"), species),
        "energy_scale": energies["scales"],
        "reference_energies": energies["shifts"],
    }
    return config_io.from_mapping(Config, fields, where="imported config")


def _require(foreign: Mapping[str, Any], options: Mapping[str, list[Any]]) -> None:
    """Raises: ConfigError if the foreign model uses an option that has no counterpart here."""
    for key, values in options.items():
        if key in foreign and foreign[key] not in values:
            raise ConfigError(
                "EQ1080",
                f"{key}={foreign[key]!r}: eqff's NequIP knows only {values[0]!r}; "
                "a model with another value cannot be imported",
            )


def _require_gates(foreign: Mapping[str, Any], key: str) -> None:
    """Raises: ConfigError unless gates are silu; they are even scalars, so the odd entry is never used."""
    if foreign.get(key, GATE).get("e") != "silu":
        raise ConfigError(
            "EQ1932",
            f"{key}={foreign[key]!r}: eqff's NequIP knows only silu for even gates; "
            "a model with other gates cannot be imported",
        )


def _whole(foreign: Mapping[str, Any], key: str, default: int) -> int:
    value = foreign.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ConfigError("EQ1933", f"{key}={value!r}: expected a whole number; correct it in the configuration")
    return int(value)


def _neighbors(value: Any, species: tuple[str, ...]) -> Any:
    """avg_num_neighbors: none (1), a number, or one per type of the sender."""
    if isinstance(value, Mapping):
        if set(value) != set(species):
            raise ConfigError(
                "EQ1081",
                f"avg_num_neighbors={dict(value)}: expected one number for each of {species}; "
                "add the missing ones and remove the others",
            )
        return tuple(float(value[symbol]) for symbol in species)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ConfigError(
            "EQ1934",
            f"avg_num_neighbors={value!r}: expected the number the model was trained with; "
            "take it from the training's log",
        )
    return 1.0 if value is None else float(value)


def _type_names(names: Sequence[str] | None, n_species: int) -> tuple[str, ...]:
    """Symbols in the order of the foreign type index; Z = 1, 2, ... where the file names none."""
    symbols = tuple(names or SYMBOLS[1 : n_species + 1])
    if len(symbols) != n_species:
        raise ConfigError("EQ1935", f"type_names={list(symbols)}: {n_species} types have weights; name as many types")
    return symbols


def _published_species(foreign: Mapping[str, Any], n_species: int) -> tuple[str, ...]:
    """nequip 0.5 and 0.6 name types in several ways; a plain list of symbols is sorted by atomic number."""
    if foreign.get("type_names"):
        return _type_names(foreign["type_names"], n_species)
    if foreign.get("chemical_symbol_to_type"):
        table = foreign["chemical_symbol_to_type"]
        return _type_names(sorted(table, key=lambda symbol: table[symbol]), n_species)
    symbols = sorted(foreign.get("chemical_symbols") or [], key=lambda symbol: ATOMIC_NUMBERS.get(symbol, 0))
    return _type_names(symbols, n_species)


def _is_before(foreign: Mapping[str, Any], version: tuple[int, int]) -> bool:
    """Whether the model states that it comes from an earlier nequip."""
    numbers = [int(number) for number in re.findall(r"\d+", str(foreign.get("nequip_version") or ""))]
    return len(numbers) >= 2 and (numbers[0], numbers[1]) < version


def _simple_irreps(n_features: int, l_max: int, parity: bool) -> tuple[str, str]:
    """Hidden and edge irreps that l_max, parity and num_features stand for up to nequip 0.15: parity outer, degree
    inner; without parity everything is even, vectors too."""
    parities = "eo" if parity else "e"
    hidden = " + ".join(f"{n_features}x{l}{p}" for p in parities for l in range(l_max + 1))
    return hidden, " + ".join(f"1x{l}{parities[l % len(parities)]}" for l in range(l_max + 1))


def _edge_irreps(value: Any) -> dict[str, Any]:
    """irreps_edge_sh, a degree or irreps -> l_max and parity of our configuration."""
    if isinstance(value, int):
        return {"l_max": value, "parity": "both"}
    irreps = parse(str(value))
    for parity, natural in (("both", True), ("none", False)):
        if [(b.irrep, b.n_channels) for b in irreps] == [
            (i, 1) for i in spherical_harmonics_irreps(len(irreps) - 1, natural)
        ]:
            return {"l_max": len(irreps) - 1, "parity": parity}
    raise ConfigError(
        "EQ1082",
        f"irreps_edge_sh={value}: expected 0e + 1o + 2e ... or 0e + 1e + 2e ..., none left out; "
        "a model with others cannot be imported",
    )


def _hidden_irreps_of_layers(layers: Sequence[str]) -> tuple[str, int]:
    """feature_irreps_hidden of FullNequIPGNNModel -> hidden irreps, number of layers."""
    texts = [to_text(parse(str(layer))) for layer in layers]
    scalars = [block for block in parse(texts[0]) if block.irrep == EVEN_SCALAR]
    if len(set(texts[:-1])) > 1 or texts[-1] != to_text(tuple(scalars)):
        raise ConfigError(
            "EQ1083",
            f"feature_irreps_hidden={texts}: expected the same in every layer and its even scalars in the last; "
            "a model with other layers cannot be imported",
        )
    return texts[0], len(texts)


def _hidden_widths(weights: Weights, pattern: str) -> list[int]:
    return [weights.shape(name)[-1] for name in weights.numbered(pattern)[:-1]]


def readout_names(weights: Weights) -> list[str]:
    """Matrices of the read-out network of nequip >= 0.7; stored as one if there is no activation between them."""
    prefix = "per_atom_energy_readout.mlp_module.mlp"
    return weights.numbered(f"{prefix}.weights.{{}}") or weights.numbered(f"{prefix}.{{}}.weight")


def merged_readout(matrices: list[Tensor], nonlinearity: str | None) -> list[Tensor]:
    """Matrices without a non-linearity between them are one matrix."""
    if nonlinearity == "silu" or len(matrices) < 2:
        return matrices
    gain = 1.0 if nonlinearity is None else math.sqrt(2.0)  # nequip takes the words "None" and "null" for a function
    merged = matrices[0]
    for first, second in pairwise(matrices):
        if first.shape[1:] != second.shape[:1]:
            raise PotentialError(
                "EQ4922",
                f"read-out: shapes {tuple(first.shape)}, {tuple(second.shape)} do not fit; "
                "give the configuration the weights were trained with",
            )
        merged = merged @ second * (gain / math.sqrt(second.shape[0]))
    return [merged]


def fill_current(model: Model, weights: Weights, readout: list[Tensor]) -> None:
    """Names of nequip >= 0.7."""
    embedding = weights.take("type_embed.embed_module.weight")
    put(model.embedding, embedding, "type_embed")
    put(model.basis.frequency, weights.take("bessel_encode.bessel_weights").reshape(-1), "bessel_encode")
    for k, layer in enumerate(cast(list[Interaction], list(model.layers))):
        fill_layer(layer, f"layer{k}_convnet.conv.", "edge_mlp.mlp.{}.weight", weights, embedding)
    put_all(cast(ScalarMLP, model.readout_layers[0]).weights, readout, "per_atom_energy_readout")


def fill_published(model: Model, weights: Weights) -> None:
    """Names of nequip 0.5 and 0.6."""
    n_species = model.embedding.shape[0]
    embedding = weights.take("chemical_embedding.linear.weight")
    (embedding,) = cut(embedding, [model.embedding.shape], "chemical_embedding.linear.weight")
    put(model.embedding, embedding / math.sqrt(n_species), "chemical_embedding")
    frequencies = weights.take("radial_basis.basis.bessel_weights").reshape(-1) / math.pi
    put(model.basis.frequency, frequencies, "radial_basis")
    one_hot = torch.eye(n_species, dtype=torch.float64)  # the attributes of the nodes
    for k, layer in enumerate(cast(list[Interaction], list(model.layers))):
        fill_layer(layer, f"layer{k}_convnet.conv.", "fc.layer{}.weight", weights, one_hot)
    for k, name in enumerate(("conv_to_output_hidden.linear.weight", "output_hidden_to_scalar.linear.weight")):
        parameter = cast(ScalarMLP, model.readout_layers[k]).weights[0]
        put_all([parameter], cut(weights.take(name), [parameter.shape], name), name)


def fill_layer(layer: Interaction, prefix: str, radial: str, weights: Weights, node_attributes: Tensor) -> None:
    """One interaction block.

    Args: prefix: of its names; radial: pattern of the names of the radial network's matrices;
          node_attributes [n_species, n_attributes]: multiplied into the self-connection
    """
    name = prefix + "linear_1.weight"
    parameters = list(layer.linear_up.weights)
    put_all(parameters, cut(weights.take(name), [p.shape for p in parameters], name), name)

    matrices = [weights.take(each) for each in weights.numbered(prefix + radial)]
    if matrices and matrices[-1].shape[-1] == layer.convolution.weight_numel:
        matrices[-1] = matrices[-1][:, radial_columns(layer)] * coupling_signs(layer, weights, prefix)
    put_all(layer.radial.weights, matrices, prefix + "radial network")

    # e3nn stores the convolution's output sorted by irrep, and so the matrices behind it
    name = prefix + "linear_2.weight"
    position = {block.irrep: k for k, block in enumerate(layer.convolution.irreps_out)}
    parameters = [layer.linear_down.weights[position[irrep]] for irrep in sorted_irreps(position)]
    put_all(parameters, cut(weights.take(name), [p.shape for p in parameters], name), name)

    if layer.self_connection is None:
        return
    name = prefix + "sc.weight"
    position = {layer.gate.irreps_in[k].irrep: i for i, k in enumerate(layer.self_connection.outputs)}
    found = [position[block.irrep] for block in layer.irreps_in if block.irrep in position]
    parameters = [layer.self_connection.weights[i] for i in found]  # each [n_species, n_in, n_out]
    n_attributes = node_attributes.shape[1]
    cubes = cut(weights.take(name), [(p.shape[1], n_attributes, p.shape[2]) for p in parameters], name)
    node_attributes = node_attributes / math.sqrt(n_attributes)
    put_all(parameters, [torch.einsum("sv,uvw->suw", node_attributes, cube) for cube in cubes], name)
