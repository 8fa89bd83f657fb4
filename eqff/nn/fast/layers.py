"""Which layers of a model run on fast paths: the names that families and kernels agree on, read only here.

kernel  every TensorProductConvolution, whatever its name: one compiled operator (`fused.fuse`)
spline  layer.convolution with weights from layer.radial(model.basis(r)), exactly 0 at r_max: radial networks become
        tables (`spline.tabulate`), in all such layers or in none
shared  layer.radial beside layer.convolution: in training an edge and its reverse share one evaluation
        (`fused.share_radial`)

A family with other names, or without such layers, gives the same results more slowly; `fast_paths` says so.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial_profile import RadialProfile

BASIS, RADIAL, CONVOLUTION = "basis", "radial", "convolution"  # names of the agreement
SHARED = (ScalarMLP, RadialProfile)  # radial networks that map every edge by itself and hold nothing else


class FastPath(NamedTuple):
    """Whether a layer runs on a fast path."""

    layer: str  # name of the submodule
    path: Literal["kernel", "spline", "shared"]
    reason: str  # why it does not; "" if it does

    def __str__(self) -> str:
        return f"{self.layer}: {self.path}" if self.reason == "" else f"{self.layer}: no {self.path}, {self.reason}"


def fast_paths(model: nn.Module) -> list[FastPath]:
    """Every layer of a model on every fast path, in the order of its modules.

    Args:    model: as the family makes it, before any replacement
    Returns: three rows for each TensorProductConvolution, and for each hop that has none
    """
    rows: list[FastPath] = []
    obstacle = spline_obstacle(model)
    for name, layer, child in _convolutions(model):
        place = f"{name}.{child}".lstrip(".")
        named = "" if child == CONVOLUTION else f"its name is {child}, not {CONVOLUTION}"
        rows += [
            FastPath(place, "kernel", ""),
            FastPath(place, "spline", named or obstacle),
            FastPath(place, "shared", named or _sharing_obstacle(layer)),
        ]
    for hop in getattr(model, "hops", [""]):
        if not any(isinstance(module, TensorProductConvolution) for module in model.get_submodule(hop).modules()):
            reason = "it has no TensorProductConvolution"
            rows += [FastPath(hop or "model", path, reason) for path in ("kernel", "spline", "shared")]
    return rows


def radial_layers(model: nn.Module, block: type = TensorProductConvolution) -> list[tuple[str, Any]]:
    """Names and modules of the layers whose `convolution` is such a block."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(_child(layer, CONVOLUTION), block)]


def shared_radial(layer: nn.Module) -> "ScalarMLP | RadialProfile | None":
    """The radial network of a layer, if both directions of an edge can share its evaluation."""
    radial = _child(layer, RADIAL)
    return radial if isinstance(radial, SHARED) else None


def spline_obstacle(model: nn.Module) -> str:
    """Why splines cannot replace the radial networks of a model; "" if they can."""
    basis, layers = _child(model, BASIS), radial_layers(model)
    if not hasattr(basis, "r_max"):
        return f"the model has no {BASIS} with r_max"
    if not layers:
        return f"the model has no layer with a {CONVOLUTION}"
    for name, layer in layers:
        radial = _child(layer, RADIAL)
        if radial is None:
            return f"{name} has no {RADIAL}"
        at_cutoff = radial_function(basis, radial)(torch.tensor([basis.r_max], dtype=torch.float64))
        if bool(at_cutoff.any()):
            return f"{name}.{RADIAL} is not 0 at r_max"
    return ""


def radial_function(basis: Any, radial: nn.Module) -> Callable[[Tensor], Tensor]:
    """r [n] Å -> weights [n, n_weights], float64."""
    exact = copy.deepcopy(radial).to(torch.float64).requires_grad_(False)
    return lambda r: exact(basis(r.unsqueeze(1)).to(torch.float64))


def _sharing_obstacle(layer: nn.Module) -> str:
    radial = _child(layer, RADIAL)
    if radial is None:
        return f"its layer has no {RADIAL}"
    return "" if isinstance(radial, SHARED) else f"its {RADIAL} is a {type(radial).__name__}"


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(name of the layer, layer, name of the child) of every TensorProductConvolution."""
    for name, layer in model.named_modules():
        for child, module in layer.named_children():
            if isinstance(module, TensorProductConvolution):
                yield name, layer, child


def _child(layer: nn.Module, name: str) -> Any:
    return getattr(layer, name, None)
