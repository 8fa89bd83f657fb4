"""What importers of codes on e3nn share: flat weights, the order of radial weights, signs of couplings."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eqff.errors import PotentialError
from eqff.importers._contract import StateDict
from eqff.models.nequip import Interaction
from eqff.o3.coupling import wigner_3j

W3J = "_w3j_"  # in names of stored coupling coefficients, followed by l1_l2_l3


def stored_couplings(weights: StateDict, prefix: str) -> dict[str, tuple[int, ...]]:
    """Names of coupling coefficients that begin like this -> (l1, l2, l3)."""
    names = [name for name in weights.arrays if name.startswith(prefix) and W3J in name]
    return {name: tuple(int(degree) for degree in name.split(W3J)[1].split("_")) for name in names}


def coupling_signs(layer: Interaction, weights: StateDict, prefix: str) -> Tensor:
    """For each column of eqff's last radial matrix, the sign of the foreign coupling, see signs_of."""
    signs = signs_of(weights, prefix)
    columns = []
    for path in layer.convolution.paths:
        block = layer.irreps_in[path.block]
        sign = signs.get((block.irrep.l, path.l_edge, path.irrep_out.l), 1.0)
        columns.append(torch.full((block.n_channels,), sign, dtype=torch.float64))
    return torch.cat(columns)


def signs_of(weights: StateDict, prefix: str) -> dict[tuple[int, ...], float]:
    """Signs of stored couplings relative to eqff's, by (l1, l2, l3).

    Releases of e3nn differ in the sign of some couplings, (1, 2, 2) for instance. The radial weights of such a path
    were trained with the stored sign and mean the opposite without it, although every symmetry holds.

    Args:   prefix: of the names of the stored coefficients, which are taken
    Raises: PotentialError for coefficients that are not eqff's up to the sign
    """
    signs: dict[tuple[int, ...], float] = {}
    for name, degrees in stored_couplings(weights, prefix).items():
        stored, ours = weights.take(name), wigner_3j(*degrees)
        agreeing = [
            sign
            for sign in (1.0, -1.0)
            if stored.shape == ours.shape and torch.allclose(sign * stored, ours, rtol=0.0, atol=1e-5)
        ]
        if not agreeing:
            raise PotentialError(
                "EQ4861",
                f"{name}: neither the coupling coefficients of e3nn nor their negative; "
                "weights trained with others cannot be imported",
            )
        signs[degrees] = agreeing[0]
    return signs


def radial_columns(layer: Interaction) -> Tensor:
    """For each column of eqff's last radial matrix, the foreign column.

    Foreign order: input block outer, edge degree middle, output irrep inner. Order here: see TensorProductConvolution.
    """
    paths, channels = layer.convolution.paths, layer.convolution.channels
    start, column = {}, 0
    for path in sorted(paths, key=lambda path: (path.block, path.l_edge, path.irrep_out.l)):
        start[path] = column
        column += channels[path.block]
    return torch.cat([start[path] + torch.arange(channels[path.block]) for path in paths])


def cut(flat: Tensor, shapes: Sequence[Sequence[int]], name: str) -> list[Tensor]:
    """A flat array of e3nn -> its pieces, in order.  Raises: PotentialError if its size differs."""
    sizes = [math.prod(shape) for shape in shapes]
    if flat.numel() != sum(sizes):
        raise PotentialError(
            "EQ4306",
            f"{name}: has {flat.numel()} numbers, the configuration explains {sum(sizes)}; "
            "give the configuration the weights were trained with",
        )
    return [piece.reshape(tuple(shape)) for piece, shape in zip(flat.reshape(-1).split(sizes), shapes, strict=True)]


def put_all(parameters: Any, values: list[Tensor], name: str) -> None:
    if len(parameters) != len(values):
        raise PotentialError(
            "EQ4305",
            f"{name}: {len(values)} matrices, expected {len(parameters)} as configured; "
            "give the configuration the weights were trained with",
        )
    for parameter, value in zip(parameters, values, strict=True):
        put(parameter, value, name)


def put(parameter: Tensor, value: Tensor, name: str) -> None:
    if parameter.shape != value.shape:
        raise PotentialError(
            "EQ4307",
            f"{name}: shape {tuple(value.shape)}, expected {tuple(parameter.shape)}; "
            "give the configuration the weights were trained with",
        )
    parameter.copy_(value)
