"""SevenNet (sevenn 0.9 and 0.10) -> eqff's NequIP: configuration and weights by rule, one modality at a time.

    eqff import sevennet checkpoint.pth -o model.eqff.pt
    eqff import sevennet sevenn-0.13.0-py3-none-any.whl:7net-0 -o 7net-0.eqff.pt    the wheel is read, not installed
    eqff import sevennet 7net-mf-0:PBE -o 7net-mf-0.eqff.pt                         from an installed sevenn

What differs and is translated here: names, some of which had blanks; e3nn's flat weights; the order of radial weights;
signs of coupling coefficients; a modality, which for a fixed choice is a bias on even scalars and a reference energy.
Source: Park et al., J. Chem. Theory Comput. 20, 4857 (2024); modalities: Kim et al., J. Am. Chem. Soc. 147, 1042 (2024)
"""

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from eqff import config as config_io
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, PotentialError
from eqff.importers._contract import Imported, StateDict
from eqff.importers._e3nn import coupling_signs, cut, put, put_all, radial_columns, stored_couplings
from eqff.importers._sevennet_files import locate, provenance
from eqff.models.nequip import Config, Interaction, Model
from eqff.nn.mlp import ScalarMLP
from eqff.o3.irreps import Irreps, parse, to_text

__all__ = ["FAMILY", "MODALITY_KEY", "RUN_DTYPE", "convert", "locate", "provenance"]

FAMILY = "nequip"
MODALITY_KEY = "modality"  # of the configuration: the one to import
RUN_DTYPE = "float32"  # as sevenn runs them; the file keeps float64, so that nothing is rounded
DERIVED = ("output_mask",)  # in names of arrays that follow from the configuration
BEFORE = (0, 11)  # sevenn 0.11 changed the order of radial weights
BLANKS = {  # names that some files of sevenn 0.9.1 have
    "EdgeEmbedding": "edge_embedding",
    "reducing nn input to hidden": "reduce_input_to_hidden",
    "reducing nn hidden to energy": "reduce_hidden_to_energy",
    "rescale atomic energy": "rescale_atomic_energy",
}
# (what sevenn takes where the key is absent, what eqff's NequIP can do)
OPTIONS: dict[str, tuple[Any, list[Any]]] = {
    "_model_type": ("E3_equivariant_model", ["E3_equivariant_model"]),
    "interaction_type": ("nequip", ["nequip"]),
    "is_parity": (True, [False]),
    "self_connection_type": ("nequip", ["linear"]),
    "act_radial": ("silu", ["silu"]),
    "use_bias_in_linear": (False, [False]),
    "readout_as_fcn": (False, [False]),
    "use_modal_node_embedding": (False, [False]),
}
MODAL_UP, MODAL_DOWN, MODAL_READOUT = (
    "use_modal_self_inter_intro",
    "use_modal_self_inter_outro",
    "use_modal_output_block",
)


def convert(foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported:
    """Configuration and state dict of a checkpoint -> Config and Model that compute the same.

    Args:    foreign: `config` of the checkpoint, and under MODALITY_KEY the modality to keep; state: its
             `model_state_dict` as arrays
    Returns: Imported, float64
    Raises:  PotentialError for a weight that is missing, left over, or of the wrong size; ConfigError for an option
             that changes the mathematics and has no counterpart here
    """
    _require(foreign)
    weights = StateDict(
        {
            renamed(name): np.asarray(array)
            for name, array in state.items()
            if np.size(array) > 0 and not any(mark in name for mark in DERIVED)
        }
    )
    modality = Modality(foreign)
    hidden = _hidden_irreps(foreign)
    n_layers = int(foreign["num_convolution_layer"])
    readout = _read_out(weights, hidden[0].n_channels, modality)
    config = _config(foreign, weights, modality, hidden, n_layers, readout)
    model = Model(config).to(torch.float64)
    n_species = len(config.species)
    with torch.no_grad():
        name = "onehot_to_feature_x.linear.weight"
        (embedding,) = cut(weights.take(name), [model.embedding.shape], name)
        put(model.embedding, embedding / math.sqrt(n_species), name)
        name = "edge_embedding.basis_function.coeffs"
        put(model.basis.frequency, weights.take(name) * (config.r_max / math.pi), name)
        for k, layer in enumerate(cast(list[Interaction], list(model.layers))):
            fill_layer(layer, k, weights, modality)
        for module, matrix in zip(model.readout_layers, readout.matrices, strict=True):
            put(cast(ScalarMLP, module).weights[0], matrix, "read-out")
    weights.finish()
    return Imported(config, model)


def renamed(name: str) -> str:
    """The name without blanks that later files give an array."""
    head, _, tail = name.partition(".")
    head = BLANKS.get(head, head.replace(" ", "_") if head[:1].isdigit() else head)
    return f"{head}.{tail}".replace("denumerator", "denominator")


class Modality:
    """Which of the modalities of a checkpoint is imported: level of theory of its labels.

    Attributes: n: how many the checkpoint has, 0 without modalities; index: of the chosen one
    """

    def __init__(self, foreign: Mapping[str, Any]) -> None:
        self.flags = {key for key in (MODAL_UP, MODAL_DOWN, MODAL_READOUT) if foreign.get(key, False)}
        chosen = foreign.get(MODALITY_KEY) or ""
        names: dict[str, int] = dict(foreign["_modal_map"]) if foreign.get("use_modality", False) else {}
        self.n = len(names)
        if not names:
            self.flags = set()
            if chosen:
                raise ConfigError("EQ1752", f"modality={chosen!r}: these weights have no modalities; leave it out")
            return
        if chosen not in names:
            raise ConfigError(
                "EQ1753",
                f"modality={chosen!r}: these weights have {', '.join(sorted(names))}; "
                "choose the level of theory with --modality",
            )
        self.index = names[chosen]

    def split(self, flat: Tensor, key: str, n_in: int, n_out: int, name: str) -> tuple[Tensor, Tensor]:
        """A flat weight of e3nn, its first matrix [n_in, n_out] for scalars -> the same without modality, bias [n_out].

        The one-hot of the modality enters as further scalars, whose matrix [n, n_out] stands last; e3nn divides by the
        root of the number of all scalars.
        """
        if key not in self.flags:
            return flat, torch.zeros(n_out, dtype=flat.dtype)
        body, rows = cut(flat, [(max(0, flat.numel() - self.n * n_out),), (self.n, n_out)], name)
        scale = torch.ones_like(body)
        scale[: n_in * n_out] = math.sqrt(n_in / (n_in + self.n))
        return body * scale, rows[self.index] / math.sqrt(n_in + self.n)

    def of(self, values: Tensor) -> Tensor:
        """One row of numbers per modality -> the row of this one; numbers without modality as they are."""
        return values[self.index] if self.n > 0 and values.dim() == 2 else values


class ReadOut:
    """Two linear maps, and the constant that a modality adds to their result."""

    def __init__(self, matrices: list[Tensor], constant: float) -> None:
        self.matrices, self.constant = matrices, constant


def _read_out(weights: StateDict, n_scalars: int, modality: Modality) -> ReadOut:
    names = ("reduce_input_to_hidden.linear.weight", "reduce_hidden_to_energy.linear.weight")
    first, last = (weights.take(name) for name in names)
    n_hidden = last.numel()
    first, bias = modality.split(first, MODAL_READOUT, n_scalars, n_hidden, names[0])
    (matrix,) = cut(first, [(n_scalars, n_hidden)], names[0])
    last = last.reshape(n_hidden, 1)
    return ReadOut([matrix, last], float((bias @ last) / math.sqrt(n_hidden)))


def fill_layer(layer: Interaction, k: int, weights: StateDict, modality: Modality) -> None:
    """Interaction block k."""
    n_scalars, n_gated = layer.irreps_in[0].n_channels, layer.gate.irreps_in[0].n_channels
    name = f"{k}_self_interaction_1.linear.weight"
    flat, bias = modality.split(weights.take(name), MODAL_UP, n_scalars, n_scalars, name)
    parameters = list(layer.linear_up.weights)
    put_all(parameters, cut(flat, [p.shape for p in parameters], name), name)
    if layer.bias_up is not None:
        put(layer.bias_up.bias, bias, name)

    prefix = f"{k}_convolution."
    names = [f"{prefix}weight_nn.layer{i}.weight" for i in range(len(layer.radial.weights))]
    matrices = [weights.take(name) for name in names]
    _require_couplings(layer, weights, prefix)
    signs = coupling_signs(layer, weights, prefix)
    if matrices[-1].shape[-1] == layer.convolution.weight_numel:
        matrices[-1] = matrices[-1][:, radial_columns(layer)] * signs
    put_all(layer.radial.weights, matrices, prefix + "weight_nn")

    name = f"{k}_self_interaction_2.linear.weight"
    n_between = layer.convolution.irreps_out[0].n_channels
    flat, bias = modality.split(weights.take(name), MODAL_DOWN, n_between, n_gated, name)
    parameters = list(layer.linear_down.weights)
    put_all(parameters, cut(flat, [p.shape for p in parameters], name), name)
    if layer.bias_down is not None:
        put(layer.bias_down.bias, bias, name)

    name = f"{k}_self_connection_intro.linear.weight"
    assert layer.self_connection is not None
    parameters = list(layer.self_connection.weights)  # each [1, n_in, n_out]
    put_all(parameters, cut(weights.take(name), [p.shape for p in parameters], name), name)


def _require_couplings(layer: Interaction, weights: StateDict, prefix: str) -> None:
    """Raises: PotentialError if the sign of a coupling is unknown; with a zero degree it is the same in every e3nn"""
    stored = set(stored_couplings(weights, prefix).values())
    for path in layer.convolution.paths:
        degrees = (layer.irreps_in[path.block].irrep.l, path.l_edge, path.irrep_out.l)
        if 0 not in degrees and degrees not in stored:
            raise PotentialError(
                "EQ4864",
                f"{prefix}: no coupling coefficients _w3j_{'_'.join(map(str, degrees))}, whose sign the weights depend "
                "on; give the whole model_state_dict",
            )


def _config(
    foreign: Mapping[str, Any],
    weights: StateDict,
    modality: Modality,
    hidden: Irreps,
    n_layers: int,
    readout: ReadOut,
) -> Config:
    species = _species(foreign["_type_map"])
    basis, envelope = foreign["radial_basis"], foreign["cutoff_function"]
    _one_of("radial_basis_name", basis["radial_basis_name"], ["bessel"])
    _one_of("cutoff_function_name", envelope["cutoff_function_name"], ["poly_cut", "XPLOR"])
    is_xplor = envelope["cutoff_function_name"] == "XPLOR"
    scale, shift = (
        _per_species(modality.of(weights.take(f"rescale_atomic_energy.{name}")), len(species), name)
        for name in ("scale", "shift")
    )
    fields = {
        "species": species,
        "r_max": float(foreign["cutoff"]),
        "l_max": int(foreign["lmax"]),
        "parity": "none",
        "hidden_irreps": to_text(hidden),
        "n_embedding": parse(foreign["irreps_manual"][0])[0].n_channels,
        "n_layers": n_layers,
        "n_bessel": int(basis.get("bessel_basis_num", 8)),
        "bessel_trainable": True,
        "envelope_power": 6 if is_xplor else int(envelope.get("poly_cut_p_value", 6)),
        "r_on": float(envelope["cutoff_on"]) if is_xplor else 0.0,
        "normalize_harmonics": _is_normalized(foreign),
        "radial_hidden": [int(width) for width in foreign["weight_nn_hidden_neurons"]],
        "readout_hidden": [readout.matrices[0].shape[1]],
        "architecture": "published",
        "scalar_last_layer": True,
        "self_connection": "linear",
        "scalar_bias": bool(modality.flags & {MODAL_UP, MODAL_DOWN}),
        "avg_num_neighbors": _denominator(weights, n_layers) ** 2,
        "energy_scale": scale.tolist(),
        "reference_energies": (shift + scale * readout.constant).tolist(),
    }
    return config_io.from_mapping(Config, fields, where="imported config")


def _require(foreign: Mapping[str, Any]) -> None:
    """Raises: ConfigError if the model uses an option that has no counterpart here."""
    version = _version(foreign)
    if not (0, 9) <= version < BEFORE:
        raise ConfigError(
            "EQ1755",
            f"version={foreign.get('version')!r}: only weights of sevenn 0.9 and 0.10 can be imported, because "
            "later ones have another order of radial weights; give a checkpoint of these versions",
        )
    for key, (default, known) in OPTIONS.items():
        value = foreign.get(key, default)
        if key == "self_connection_type" and isinstance(value, list):  # one per layer
            for layer_value in value:
                _one_of(key, layer_value, known)
            continue
        _one_of(key, value, known)
    for key in ("act_scalar", "act_gate"):
        _one_of(f"{key}.e", foreign.get(key, {"e": "silu"})["e"], ["silu"])  # without parity nothing is odd
    for key in ("lmax_edge", "lmax_node"):
        _one_of(key, foreign.get(key, -1), [-1, foreign["lmax"]])


def _one_of(key: str, value: Any, known: list[Any]) -> None:
    if value not in known:
        raise ConfigError(
            "EQ1756",
            f"{key}={value!r}: eqff imports SevenNet with {' or '.join(map(repr, known))} only; "
            "a model with another value cannot be imported",
        )


def _version(foreign: Mapping[str, Any]) -> tuple[int, int]:
    numbers = re.findall(r"\d+", str(foreign.get("version", "")))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) >= 2 else (0, 0)


def _is_normalized(foreign: Mapping[str, Any]) -> bool:
    """Whether harmonics are of unit vectors: sevenn 0.9 wrote nothing while they were not."""
    return bool(foreign["_normalize_sph"] if _version(foreign) > (0, 9) else foreign.get("_normalize_sph", False))


def _hidden_irreps(foreign: Mapping[str, Any]) -> Irreps:
    """Features between layers."""
    texts, n_layers = foreign["irreps_manual"], foreign["num_convolution_layer"]
    valid = isinstance(texts, list) and len(texts) == n_layers + 1 and n_layers > 0
    layers = [parse(str(text)) for text in texts] if valid else []
    if valid:
        hidden = layers[1] if n_layers > 1 else layers[-1]
        degrees = [block.irrep.l for block in hidden]
        scalars = [len(layer) == 1 and layer[0].irrep.l == 0 for layer in (layers[0], layers[-1])]
        valid = (
            all(scalars)
            and all(layer == hidden for layer in layers[1:-1])
            and all(block.irrep.p == 1 for block in hidden)
            and degrees == list(range(len(degrees)))
            and layers[-1][0].n_channels == hidden[0].n_channels
        )
    if not valid:
        raise ConfigError(
            "EQ1757",
            f"irreps_manual={texts!r}: expected scalars 0e, the same irreps 0e + 1e + ... between all {n_layers} "
            "layers, and as many scalars in the end; a model with others cannot be imported",
        )
    return hidden


def _species(type_map: Mapping[Any, Any]) -> tuple[str, ...]:
    """Symbols in the order of rows."""
    rows = sorted((int(row), int(number)) for number, row in type_map.items())
    if [row for row, _ in rows] != list(range(len(rows))) or not all(0 < z < len(SYMBOLS) for _, z in rows):
        raise ConfigError(
            "EQ1758", "_type_map: expected atomic numbers and rows 0, 1, ...; give the configuration of the checkpoint"
        )
    return tuple(SYMBOLS[number] for _, number in rows)


def _per_species(values: Tensor, n_species: int, name: str) -> Tensor:
    if values.numel() not in (1, n_species):
        raise PotentialError(
            "EQ4869",
            f"rescale_atomic_energy.{name}: {values.numel()} numbers for {n_species} species; "
            "give the configuration the weights were trained with",
        )
    return values.reshape(-1).expand(n_species)


def _denominator(weights: StateDict, n_layers: int) -> float:
    """What sums over neighbours are divided by, the same in all layers."""
    values = [float(weights.take(f"{k}_convolution.denominator").reshape(())) for k in range(n_layers)]
    if len(set(values)) > 1 or values[0] <= 0.0:
        raise PotentialError(
            "EQ4870",
            f"denominator={values}: expected the same positive number in every layer; "
            "a model with others cannot be imported",
        )
    return values[0]
